package files

// After says what becomes of a finished file.
type After uint8

const (
	// Keep leaves files where they are. The ledger remembers that they were read.
	Keep After = iota
	// Move moves files that were read, and skipped duplicates, to ProcessedDir and
	// failed ones to FailedDir. A name that is taken becomes name.2.csv.
	Move
)

// Duplicates is a policy for the same content under another name.
type Duplicates uint8

const (
	// SkipDuplicates notes the file in the ledger and does not read it.
	SkipDuplicates Duplicates = iota
	// ReadDuplicates reads it like any other.
	ReadDuplicates
)

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
