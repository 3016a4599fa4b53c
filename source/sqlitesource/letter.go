package sqlitesource

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/cursor"
	"github.com/leatgo/leat/internal/row"
)

// DecodeLetter implements leat.LetterDecoder. It decodes the JSON object that a dead
// letter's Raw is, as the row that it was, and appends it to out as record number
// record. A row that still can't be decoded is rejected as when it was read. An error means
// that this source can do nothing with the letter.
func (s *Source[T]) DecodeLetter(l leat.DeadLetter, out *leat.Batch[T], record int) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("sqlitesource: dead letter %s (offset %d): "+format, append([]any{l.ID, l.Offset}, args...)...)
	}
	t, err := row.Of[T]()
	if err != nil {
		return fail("%w", err)
	}
	if len(l.Raw) == 0 {
		return fail("it has no original row")
	}
	d := json.NewDecoder(bytes.NewReader(l.Raw))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return fail("its row is no JSON object: %w", err)
	}
	if d.More() {
		return fail("something follows its row")
	}
	// The object is read as a table of one row.
	info := tableInfo{kind: "query"}
	for name := range object {
		if info.column(name) != nil {
			return fail("its row has the column %s twice", name)
		}
		info.columns = append(info.columns, columnInfo{name: name})
	}
	sh := &shape{}
	if err := s.config.bindColumns(sh, &info, t); err != nil {
		return fail("%w", err)
	}
	cells := make([]cursor.Value, len(sh.names))
	for i, name := range sh.names {
		if cells[i], err = cursor.FromJSON(object[info.column(name).name]); err != nil {
			return fail("column %s: %w", name, err)
		}
	}
	sh.width = len(cells)
	for i := range t.Origins {
		sh.origins = append(sh.origins, &t.Origins[i])
	}
	dec := decoding[T]{shape: sh, out: out}
	dec.run(1, func(int) []cursor.Value { return cells }, func(int) int64 { return l.Offset }, record)
	return nil
}
