package csvsource

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
)

// header is a file's header line and what it means for the row type.
type header struct {
	form    *form
	raw     string    // in UTF-8
	fields  int       // in every record
	least   int       // bytes of a record that becomes a row, its end included
	columns []binding // in the file's order
	origins []*row.Column

	extra  *row.Column // keeps what others names; nil: it is ignored
	others []other

	once sync.Once
	plan *row.Plan // see decoder
}

// other is a field that the row type has no column for.
type other struct {
	field int
	name  string
}

// decoder gives what reads plain records quickly.
func (h *header) decoder() *row.Decoder {
	h.once.Do(func() {
		cells := make([]*row.Column, h.fields)
		for _, b := range h.columns {
			cells[b.field] = b.column
		}
		d := &h.form.dialect
		h.plan = row.NewPlan(row.Form{Delimiter: d.Delimiter, Quote: d.Quote, Comment: d.Comment, Max: d.MaxRecord, Spelling: &h.form.spelling}, cells)
	})
	return h.plan.Decoder()
}

// binding is a column and the field it is read from.
type binding struct {
	field  int
	column *row.Column
}

// headerFault is why a file is refused whole; it travels as damage.
type headerFault struct {
	msg  string
	seen string // the line, where people need it; perhaps a row, in a file without header
}

func (f *headerFault) Error() string {
	if f.seen == "" {
		return f.msg
	}
	return fmt.Sprintf("%s (header line: %q)", f.msg, f.seen)
}

// ForLog keeps what may be a row out of logs. The ledger has all of it.
func (f *headerFault) ForLog() string { return f.msg }

// readHeader reads the header line, which is next; see form.header.
func (f *form) readHeader(c *csvtext.Cutter) (names []string, _ *header, err error) {
	raw, names, err := c.Header()
	if err == io.EOF {
		msg := "the file has no header line: it is empty"
		if f.skip > 0 {
			msg = fmt.Sprintf("the file has no header line: nothing follows the %d lines that are passed over", f.skip)
		}
		return nil, nil, filesource.Damaged(&headerFault{msg: msg})
	}
	var format csvtext.FormatError
	if errors.As(err, &format) {
		return nil, nil, filesource.Damaged(&headerFault{msg: string(format)})
	}
	if err != nil {
		return nil, nil, err
	}
	for i := range names {
		names[i] = strings.Clone(names[i])
		if f.trim {
			names[i] = strings.Trim(names[i], " \t")
		}
	}
	h, err := f.bind(names, string(raw))
	return names, h, err
}

// suspicion is why a header may lack what is wanted.
func (f *form) suspicion(raw string) string {
	switch {
	case strings.Contains(raw, "\x00"):
		return " (it has NUL characters: is the file in UTF-16, which Encoding must say?)"
	case f.spelling.Text != "" && !utf8.ValidString(raw):
		return fmt.Sprintf(" (it is no text in %v: is the file in another Encoding?)", f.encoding)
	case strings.Contains(raw, "\r"):
		return " (its lines seem to end with CR alone, as on old Macintoshes: convert the file)"
	}
	return ""
}

// bind checks the names of the columns against the contract: each column of the row type
// must be there once, in any order, unless the policies say otherwise. The error is a headerFault.
func (f *form) bind(names []string, raw string) (*header, error) {
	h := &header{form: f, raw: raw, fields: len(names)}
	filled, last := 0, 0 // of the fields that can't be empty: how many, and the last
	var missing, twice, unwanted []string
	for i := range f.row.Columns {
		col := &f.row.Columns[i]
		if col.Extra {
			continue
		}
		at := slices.Index(names, col.Name)
		switch {
		case at >= 0 && slices.Contains(names[at+1:], col.Name):
			twice = append(twice, strconv.Quote(col.Name))
		case at >= 0:
			h.columns = append(h.columns, binding{at, col})
			if !col.Null && col.Kind != row.String && col.Kind != row.Bytes { // it can't be empty
				filled++
				last = max(last, at)
			}
		case f.missing == drift.ZeroMissing, f.missing == drift.NullMissing && col.Null:
		default:
			missing = append(missing, strconv.Quote(col.Name))
		}
	}
	h.least = len(names) + filled
	if f.ragged&PadRagged != 0 { // up to the last field that must be there
		h.least = max(last+1+filled, 2)
	}
	extra := f.row.Extra()
	seen := make(map[string]bool) // by others: a line may have very many names
	for i, name := range names {
		if c := f.row.Column(name); c != nil && !c.Extra {
			continue
		}
		if f.extra == drift.RefuseExtra {
			unwanted = append(unwanted, strconv.Quote(name))
		}
		if extra == nil {
			continue
		}
		if fault := f.spelling.Check(name); fault != "" {
			unwanted = append(unwanted, strconv.Quote(name))
		}
		if seen[name] {
			twice = append(twice, strconv.Quote(name))
		}
		seen[name] = true
		h.extra, h.others = extra, append(h.others, other{i, name})
	}
	var faults []string
	switch {
	case len(missing) > 0:
		faults = append(faults, "it misses the columns "+strings.Join(missing, ", ")+f.suspicion(raw))
	case len(h.columns)+len(twice) == 0 && len(f.row.Columns) > 0 && !(extra != nil && len(f.row.Columns) == 1):
		faults = append(faults, "it has none of the row type's columns, so the file is something else, or its Delimiter is")
	}
	if len(twice) > 0 {
		faults = append(faults, "it names the columns "+strings.Join(twice, ", ")+" more than once")
	}
	if len(unwanted) > 0 {
		faults = append(faults, "it has the columns "+strings.Join(unwanted, ", ")+", which are not wanted")
	}
	if len(faults) > 0 {
		seen := h.raw
		if len(seen) > 500 {
			seen = seen[:500] + "…"
		}
		return nil, filesource.Damaged(&headerFault{"the header is refused: " + strings.Join(faults, "; "), seen})
	}
	slices.SortFunc(h.columns, func(a, b binding) int { return a.field - b.field })
	for i := range f.row.Origins {
		h.origins = append(h.origins, &f.row.Origins[i])
	}
	return h, nil
}
