package csvsource

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
	"github.com/leatgo/leat/source/files"
)

// Config says which files to read, and how. T is a struct; its columns are found
// in the header line by name (see package leat on tags), and each of them must be
// there, unless Missing says otherwise.
type Config[T any] struct {
	// Name keys positions, the ledger, metrics and dead letters, so it must be
	// stable. Defaults to the last element of Dir, or "csv" for Files.
	Name string

	// Dir is the folder whose files are read. Either Dir or Files must be set.
	Dir string

	// Glob chooses files by their path relative to Dir, with slashes: elements as in
	// path.Match, and ** for any number of folders. A name that begins with a dot is
	// only found by a pattern that does too. Defaults to *.csv, *.csv.gz and
	// *.csv.zst, in Dir itself or, with Recursive, in all folders below it too.
	Glob string

	// Recursive makes Glob's default look into all folders below Dir. With a Glob it
	// has no meaning: write **/ there.
	Recursive bool

	// Files are read in this order. One that does not exist is an error, unless it
	// was read before.
	Files []string

	// Watch keeps looking for new files: it is the time between two scans of Dir, the
	// longest that a file waits to be seen. Where the file system notifies, that is
	// sooner, but nothing depends on it. Defaults to 0: one pass over what is there.
	Watch time.Duration

	// Settle is how long a file's size and modification time must stand still, as
	// seen by this process, before it is read (rule D1). -1 means not at all: files
	// must then be complete when they appear. Defaults to 2 s with Watch, and to -1
	// without.
	Settle time.Duration

	// MaxScans ends the run after so many scans that Watch made due. Files that
	// changed shortly before the last one get one more look, Settle later; those that
	// still change then are left for the next run. Defaults to 0: watch for ever.
	MaxScans int

	// PollOnly leaves out the file system's notifications, so that Watch alone says
	// when the folder is looked at: for file systems that make too many, and for
	// tests in virtual time (testing/synctest).
	PollOnly bool

	// Attempts is how often the reading of one file may fail, for reasons of the disk
	// or the network, within one process. Each failure rewinds the pipeline, which
	// waits a little; after the last one the file is failed, the rows before the
	// fault stay, and the others go on. -1 means for ever. Defaults to 5.
	Attempts int

	// OnFile, if set, is called when a file's final status is durable: read, failed,
	// skipped, or refused without a place in the log. It is called once for each
	// entry of the ledger, never for rows; one call at a time, by any goroutine. The
	// source waits for it, so it must return quickly. A crash may lose a call; Ledger
	// has all.
	OnFile func(files.Event)

	// Delimiter separates fields. It is one ASCII character. Defaults to ','.
	Delimiter rune

	// Quote encloses fields that hold delimiters, quotes or line ends. It is one
	// ASCII character; -1 means that nothing is quoted. Defaults to '"'.
	Quote rune

	// Comment, at the start of a record, makes a line a comment. It is one ASCII
	// character. Defaults to none.
	Comment rune

	// Encoding is how the files write characters. Defaults to UTF8. Offsets are then
	// places in the text as UTF-8, and resuming in the middle of a file reads it from its start.
	Encoding Encoding

	// SkipLines passes over so many lines at the start of each file, whatever is on them:
	// titles, notes, sep=;.
	SkipLines int

	// Header names the columns of files that have no header line, all of them, in order.
	// Their first record is then data.
	Header []string

	// Lenient reads quotes as they may have been meant, instead of refusing records; see
	// the package's "Dialects".
	Lenient bool

	// Ragged says what becomes of records that have more or fewer fields than the
	// header. Defaults to RefuseRagged.
	Ragged Ragged

	// Trim takes spaces and tabs off both ends of fields and names of columns.
	Trim bool

	// Null are texts of fields that count as empty, exactly: "NULL", "N/A", "-".
	Null []string

	// True and False are texts of bools, exactly, beside true, false, t, f, 1 and 0 in
	// upper and lower case.
	True, False []string

	// Decimal is the decimal point of numbers, Thousands what may stand between thousands: ','
	// and '.' in 1.234,56. They are for columns of numbers, and those tagged decimal=, and
	// may be the delimiter where such fields are quoted. Default to '.' and none.
	Decimal   rune
	Thousands rune

	// Extra says what becomes of columns that the row type has not, Missing of those that
	// a file has not; a file that has none at all of the row type's columns is refused always.
	// Defaults to drift.IgnoreExtra and drift.RefuseMissing. A column tagged
	// `leat:",extra"` keeps the texts of extra ones, at the cost of a map for each row.
	Extra   drift.Extra
	Missing drift.Missing

	// MaxRecord is the longest record, in bytes; a longer one is rejected. Memory is
	// bounded by it: deciding where an unclosed quoted field ends may need so much.
	// Defaults to 16 MiB.
	MaxRecord int

	// ChunkBytes is about how much text is decoded at once, by one goroutine, and
	// handed on as one batch. Rows and offsets do not depend on it. Defaults to 512 KiB.
	ChunkBytes int

	// After says what becomes of a file when all its rows are durable in every
	// sink. Defaults to files.Keep.
	After files.After

	// ProcessedDir and FailedDir are where Move puts files; they are created. They
	// must not lose their files as long as a sink may have to be filled again from
	// the start. Default to folders "processed" and "failed" beside Dir; with Files
	// they must be set.
	ProcessedDir string
	FailedDir    string

	// Duplicates says what to do with a file that has another name but the same
	// content as one that was read before. Defaults to files.SkipDuplicates.
	Duplicates files.Duplicates

	headerless bool // With a dialect without a header line
}

// Ragged is a policy for records that have more or fewer fields than the header.
// PadRagged|CutRagged is both.
type Ragged uint8

const (
	// RefuseRagged rejects them.
	RefuseRagged Ragged = 0
	// PadRagged takes fields that are missing at the end as empty ones.
	PadRagged Ragged = 1
	// CutRagged passes over fields that are too many.
	CutRagged Ragged = 2
)

const (
	defaultMaxRecord  = 16 << 20
	defaultChunkBytes = 512 << 10
)

// files are the fields that sources of files share.
func (c *Config[T]) files() filesource.Config {
	return filesource.Config{
		Package: "csvsource", Kind: "csv", Endings: []string{".csv", ".csv.gz", ".csv.zst"},
		Name: c.Name, Dir: c.Dir, Glob: c.Glob, Recursive: c.Recursive, Files: c.Files,
		Watch: c.Watch, Settle: c.Settle, MaxScans: c.MaxScans, PollOnly: c.PollOnly, Attempts: c.Attempts, OnFile: c.OnFile,
		After: c.After, ProcessedDir: c.ProcessedDir, FailedDir: c.FailedDir, Duplicates: c.Duplicates,
	}
}

func (c *Config[T]) dialect() csvtext.Dialect {
	d := csvtext.Dialect{Delimiter: ',', Quote: '"', MaxRecord: c.MaxRecord, Lenient: c.Lenient}
	if c.Delimiter != 0 {
		d.Delimiter = byte(c.Delimiter)
	}
	switch c.Quote {
	case 0:
	case -1:
		d.Quote = 0
	default:
		d.Quote = byte(c.Quote)
	}
	d.Comment = byte(c.Comment)
	if d.MaxRecord == 0 {
		d.MaxRecord = defaultMaxRecord
	}
	return d
}

func (c *Config[T]) spelling() row.Spelling {
	s := row.Spelling{Null: c.Null, True: c.True, False: c.False, Trim: c.Trim}
	if c.Decimal != 0 && c.Decimal != '.' {
		s.Decimal = string(c.Decimal)
	}
	if c.Thousands != 0 {
		s.Thousands = string(c.Thousands)
	}
	switch c.Encoding {
	case AnyBytes:
	case UTF8:
		s.Text = "valid UTF-8 (is the file in another Encoding?)"
	default:
		s.Text, s.CheckBytes = "text in "+c.Encoding.String(), true
	}
	return s
}

func (c *Config[T]) chunkBytes() int {
	if c.ChunkBytes == 0 {
		return defaultChunkBytes
	}
	return c.ChunkBytes
}

// dialectFaults are the mistakes in the fields about how files are written, but for those
// of single characters.
func (c *Config[T]) dialectFaults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Encoding > Windows1252 {
		fault("Encoding %d: there are UTF8, AnyBytes, UTF16LE, UTF16BE, Latin1 and Windows1252", c.Encoding)
	}
	if c.SkipLines < 0 {
		fault("SkipLines %d is negative", c.SkipLines)
	}
	if c.Ragged > PadRagged|CutRagged {
		fault("Ragged %d: there are RefuseRagged, PadRagged, CutRagged, and the last two together", c.Ragged)
	}
	if c.Extra > drift.RefuseExtra {
		fault("Extra %d: there are drift.IgnoreExtra and drift.RefuseExtra", c.Extra)
	}
	if c.Missing > drift.ZeroMissing {
		fault("Missing %d: there are drift.RefuseMissing, drift.NullMissing and drift.ZeroMissing", c.Missing)
	}
	point := c.Decimal
	if point == 0 {
		point = '.'
	}
	for _, f := range []struct {
		name string
		r    rune
	}{{"Decimal", c.Decimal}, {"Thousands", c.Thousands}} {
		switch r := f.r; {
		case r == 0:
		case !utf8.ValidRune(r) || r < ' ' || r-'0' <= 9 && r >= '0' || strings.ContainsRune("+-eE", r):
			fault("%s %q: numbers need that character otherwise", f.name, r)
		case f.name == "Thousands" && r == point:
			fault("Thousands %q: the decimal point is the same", r)
		}
	}
	for _, s := range c.True {
		if slices.Contains(c.False, s) {
			fault("True and False both have %q", s)
		}
	}
	for _, s := range slices.Concat(c.True, c.False) {
		if slices.Contains(c.Null, s) {
			fault("%q is one of Null, and of True or False", s)
		}
	}
	switch {
	case c.Header == nil && c.headerless:
		fault("the dialect has no header line: name the columns in Header")
	case c.Header == nil:
	case len(c.Header) == 0:
		fault("Header is empty: it names the columns of files without a header line; leave it nil if they have one")
	default:
		if f, err := newForm(c); err == nil {
			line := headerLine(&f.dialect, c.Header)
			if _, err := f.bind(c.Header, line); err != nil {
				var h *headerFault
				if errors.As(err, &h) {
					fault("Header: %s", strings.ReplaceAll(h.msg, "the header is refused: ", ""))
				}
			}
			cut := csvtext.NewCutter(f.dialect, 4<<10)
			cut.Reset(strings.NewReader(line))
			if _, names, err := cut.Header(); err != nil || !slices.Equal(names, c.Header) {
				fault("Header: the names can't be written as one line of this dialect, which dead letters need")
			}
		}
	}
	return faults
}

// faults are the mistakes in the other fields.
func (c *Config[T]) faults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	var used []rune
	for _, f := range []struct {
		name string
		r    rune
		def  rune
		off  bool
	}{{"Delimiter", c.Delimiter, ',', false}, {"Quote", c.Quote, '"', true}, {"Comment", c.Comment, 0, false}} {
		r := f.r
		if r == 0 {
			r = f.def
		}
		switch {
		case r == 0, r == -1 && f.off:
		case r < 0 || r > 127 || r == '\n' || r == '\r':
			fault("%s %q: it must be one ASCII character, and no line end", f.name, r)
		case slices.Contains(used, r):
			fault("%s %q: the character has another meaning already", f.name, r)
		default:
			used = append(used, r)
		}
	}
	faults = append(faults, c.dialectFaults()...)
	if c.MaxRecord < 0 {
		fault("MaxRecord %d is negative", c.MaxRecord)
	}
	if c.ChunkBytes < 0 {
		fault("ChunkBytes %d is negative", c.ChunkBytes)
	}
	t, err := row.Of[T]()
	switch {
	case err != nil:
		faults = append(faults, err)
	case len(t.Columns) == 0:
		fault("the row type %v has no columns", t)
	default:
		for i := range t.Columns {
			if col := &t.Columns[i]; !col.CanParse() && !col.Extra {
				fault("column %s: a %v can't be read from text; give its type an UnmarshalText method, or leave the field out with `leat:\"-\"`", col.Name, col.Type)
			}
		}
	}
	return faults
}
