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
	byName := make(map[string]any, len(object))
	for name, a := range object {
		byName[fold(name)] = a
	}
	sh := &shape{width: len(t.Columns)}
	cells := make([]cursor.Value, len(t.Columns))
	for i := range t.Columns {
		col := &t.Columns[i]
		a, ok := byName[fold(col.Name)]
		if !ok {
			return fail("its row has no column %s", col.Name)
		}
		if cells[i], err = cursor.FromJSON(a); err != nil {
			return fail("column %s: %w", col.Name, err)
		}
		sh.columns = append(sh.columns, col)
	}
	for i := range t.Origins {
		sh.origins = append(sh.origins, &t.Origins[i])
	}
	dec := decoding[T]{shape: sh, out: out}
	dec.run(1, func(int) []cursor.Value { return cells }, func(int) int64 { return l.Offset }, record)
	return nil
}
