package csvsource

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/row"
)

// header is a file's header line and what it means for the row type.
type header struct {
	raw     string
	fields  int       // in every record
	least   int       // bytes of a record that becomes a row, its end included
	columns []binding // in the file's order
	origins []*row.Column

	once sync.Once
	plan *row.Plan // see decoder
}

// decoder gives what reads plain records quickly.
func (h *header) decoder(d *csvtext.Dialect) *row.Decoder {
	h.once.Do(func() {
		cells := make([]*row.Column, h.fields)
		for _, b := range h.columns {
			cells[b.field] = b.column
		}
		h.plan = row.NewPlan(row.Form{Delimiter: d.Delimiter, Quote: d.Quote, Comment: d.Comment, Max: d.MaxRecord}, cells)
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

// readHeader reads the header line of a text and checks it against the contract:
// each column of T must be there, once, in any order; other names are ignored. The
// error is a headerFault or one of reading; names come with a headerFault too, if there
// are any.
func readHeader(c *csvtext.Cutter, t *row.Type) (names []string, _ *header, err error) {
	raw, names, err := c.Header()
	if err == io.EOF {
		return nil, nil, filesource.Damaged(&headerFault{msg: "the file has no header line: it is empty"})
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
	}
	h := &header{raw: string(raw), fields: len(names), least: len(names)}
	var missing, twice []string
	for i := range t.Columns {
		col := &t.Columns[i]
		if col.Extra {
			continue
		}
		at := slices.Index(names, col.Name)
		switch {
		case at < 0:
			missing = append(missing, strconv.Quote(col.Name))
		case slices.Contains(names[at+1:], col.Name):
			twice = append(twice, strconv.Quote(col.Name))
		default:
			h.columns = append(h.columns, binding{at, col})
			if !col.Null && col.Kind != row.String && col.Kind != row.Bytes { // it can't be empty
				h.least++
			}
		}
	}
	var faults []string
	if len(missing) > 0 {
		faults = append(faults, "it misses the columns "+strings.Join(missing, ", "))
	}
	if len(twice) > 0 {
		faults = append(faults, "it names the columns "+strings.Join(twice, ", ")+" more than once")
	}
	if len(faults) > 0 {
		seen := h.raw
		if len(seen) > 500 {
			seen = seen[:500] + "…"
		}
		return names, nil, filesource.Damaged(&headerFault{"the header is refused: " + strings.Join(faults, "; "), seen})
	}
	slices.SortFunc(h.columns, func(a, b binding) int { return a.field - b.field })
	for i := range t.Origins {
		h.origins = append(h.origins, &t.Origins[i])
	}
	return names, h, nil
}
