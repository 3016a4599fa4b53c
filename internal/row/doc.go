// Package row compiles a Go struct type to its columns, once, so that every
// adapter reads and writes rows the same way and without walking the type for
// each row.
//
// The same column name is the CSV header, the JSON key, the SQL column and the
// Parquet column. It is the name in the `leat` tag, else the name in the `json`
// tag, else the field's name in snake_case (VentaID is venta_id):
//
//	type Venta struct {
//		VentaID int64           `leat:",key"`
//		Fecha   time.Time       `leat:"fecha_venta,time=2006-01-02 15:04:05"`
//		Precio  decimal.Decimal `json:"precio"`
//		Nota    *string         // null when the cell is empty
//		Archivo string          `leat:"@file"` // where the row came from
//		Interno string          `leat:"-"`
//	}
//
// # Tags
//
// Options follow the name after a comma: `key` marks a key column of a sink,
// `time=LAYOUT` gives the layout of a time in text. A layout may hold commas, so
// it runs to the end of the tag; only a last ",key" is still the option.
// `extra` marks the one map[string]string (or of any, or of json.RawMessage) that
// keeps what a source finds and the row has no column for; sinks store it as the
// text of a JSON object, jsonsink as an object.
// `decimal=18.2` says that a string, or a type with a text form such as
// decimal.Decimal, is a number of 18 digits, 2 of them behind the point: sinks
// that have such numbers (Parquet) store one, all others the text. Embedded
// structs are flattened, unless they have a name in their tag, are a time or
// have a text form of their own. Unexported fields are ignored. A type with any
// fault does not compile, and the error names all of them.
//
// # Text
//
// Text is taken as it stands: spaces are never trimmed (" 1" is not a number).
// Whole numbers are decimal, with an optional sign. Other numbers are decimal
// with an optional exponent; NaN, infinities, hexadecimal forms and underscores
// are refused, because a file that holds them was not meant to be data. A time
// without a zone is UTC, and times are written in UTC, whatever the zone of the
// machine: the same file gives the same rows everywhere. The zone abbreviations
// (MST in a layout) that Go does not know for UTC are read with offset zero, as
// [time.ParseInLocation] does; prefer numeric offsets.
//
// # Memory
//
// Functions that take a row take its address, which must point to a value of
// exactly the compiled type that stays alive during the call:
//
//	err := col.Parse(unsafe.Pointer(&rows[i]), text)
//
// A nil or wrong pointer is a memory fault, not an error.
package row
