// Package codec is what the codecs of message values share: the schema registry, and how
// subjects are named. The codecs are avrocodec and protocodec; a program links the one it
// imports.
//
// A value with a registered schema begins with a header of five bytes, which Confluent's
// serializers made the standard: a zero, and the id of the schema that the value was
// written with (32 bits, big-endian). A Protobuf value goes on with the place of its
// message in the schema.
//
// # Errors
//
// They tell apart whose fault it is. A value that no schema fits, or with an id that the
// registry does not have, is a row at fault: a plain error, by which the row is rejected.
// A registry that cannot be reached, answers with a server's error, or does not let the
// program in, says nothing about rows: the error is marked with [leat.Transient], and the
// engine tries again with backoff and never dead-letters a row for it (rule B8). The same
// holds for a schema of the program's own that is not registered: it is for people to
// register it, and the rows wait.
//
// Errors name the registry's path and answer, never credentials, tokens or values.
package codec
