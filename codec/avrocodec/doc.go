// Package avrocodec reads and writes rows as Avro, with a schema registry or without: the
// values of kafkasource and kafkasink.
//
// # Columns
//
// Avro's fields and the row's columns meet by name, the name that all adapters use: the one
// in the `leat` tag, else in the `json` tag, else the Go field's in snake_case. What the
// values are is settled by the schema that they were written with and by the Go type:
//
//	Avro                               Go
//	boolean                            bool
//	int, long                          any integer, range checked; floats that hold it exactly
//	float, double                      float32, float64
//	string, enum                       string, or a type with UnmarshalText
//	bytes, fixed                       []byte, [N]byte
//	string, fixed (uuid)               string, or a type with UnmarshalText, [16]byte
//	long (timestamp-millis … -nanos)   time.Time in UTC; an integer gets the number
//	int (date)                         time.Time in UTC
//	int, long (time-millis, -micros)   time.Duration
//	bytes, fixed (decimal)             a type with a text form, such as decimal.Decimal; string, float64, *big.Rat
//	array, map                         slices, map[string]V
//	record                             a struct
//	[null, X]                          a pointer, or sql.Null[X]
//
// A null for a field that can't be null rejects the row, as does a number that the field
// can't hold. Text must be UTF-8, read or written. In records within records a union with null needs a
// pointer, and a decimal a type that Avro knows by itself (string, float64, *big.Rat).
// Row types that hold themselves are refused.
//
// # Schemas that change
//
// A value is read with the schema that it was written with, which its header names. Fields that
// T has no column for are skipped. A column that the schema has no field for stays as it is if
// it can be null, else the row is rejected. For defaults, and for fields that were renamed, give Config.Schema:
// Avro's rules of schema resolution then lead from the writer's schema to that one.
package avrocodec
