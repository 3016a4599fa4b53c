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
