// Package drift has the policies for input whose columns are not those of the row type:
// csvsource, jsonsource, parquetsource, sqlitesource and kafkasource take them in their Configs.
package drift

// Extra is a policy for columns (of JSON: members) that a file has and the row type
// has not. If the row type has a column with the option extra, that one keeps them,
// under any policy but RefuseExtra.
type Extra uint8

const (
	// IgnoreExtra passes over them.
	IgnoreExtra Extra = iota
	// RefuseExtra refuses a file whose header names one, or a JSON row that has one.
	RefuseExtra
)

// Missing is a policy for columns that the row type has and a file (of JSON: a row) has
// not. The zero value is the source's own default.
type Missing uint8

const (
	// RefuseMissing refuses the file, or the JSON row.
	RefuseMissing Missing = iota + 1
	// NullMissing makes them null, if their fields can be (pointers, sql.Null). A file,
	// or a JSON row, that misses any other is refused.
	NullMissing
	// ZeroMissing leaves their fields at the zero value, which is null for those that
	// can be.
	ZeroMissing
)

// Repeated is a policy for a key that a JSON row has twice, however it is spelled ("a" and
// "\u0061" are one). Keys that are passed over may come as often as they like.
type Repeated uint8

const (
	// RefuseRepeated rejects the row.
	RefuseRepeated Repeated = iota
	// LastRepeated takes the last value. The others must be right all the same.
	LastRepeated
	// FirstRepeated takes the first value. Of the others only the syntax is looked at.
	FirstRepeated
)
