// Package protocodec reads and writes Protobuf messages, with a schema registry or without:
// the values of kafkasource and kafkasink.
//
// A row is a generated message (New), or a struct that holds one (Within). Prefer the
// latter where stages copy rows: a struct with a *pb.Venta may be copied, a pb.Venta should not
// be.
//
//	type Row struct {
//		Venta  *pb.Venta `leat:"venta"`
//		Offset int64     `leat:"@offset"`
//	}
//	protocodec.Within(protocodec.Config{Registry: registry}, func(r *Row) **pb.Venta { return &r.Venta })
//
// With a registry a value names its schema and, by a list of indexes, the message in it. The
// codec looks the message up and rejects values of another one: Protobuf itself would
// read them as if they were, for it only knows numbers of fields. What fields
// a value has follows from Protobuf's own rules; unknown ones are kept and written again.
//
// An index counts the messages before it in the file. Serializers disagree on whether the
// entries of maps and groups, which are messages that nobody wrote down, count too: both are
// read, and those of Confluent's Java are written, where they do not.
package protocodec
