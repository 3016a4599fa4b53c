package parquetsource

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
)

// DecodeLetter implements leat.LetterDecoder. It makes the row of a dead letter again
// from its Raw, which is the row as JSON, and appends it to out as record number record.
// Its file, line, offset and time are the letter's. A row that still can't be made is
// rejected as when it was read. An error means that this source can do nothing with the
// letter.
func (s *Source[T]) DecodeLetter(l leat.DeadLetter, out *leat.Batch[T], record int) error {
	t, err := row.Of[T]()
	if err == nil && len(l.Raw) == 0 {
		err = errors.New("it has no original bytes")
	}
	r := new(T)
	p := unsafe.Pointer(r)
	if err == nil {
		err = parquetread.SetJSON(t, s.config.drift(), l.Raw, p)
	}
	if err != nil && errorIsField(err) {
		out.Reject(record, leat.Decode, err)
		return nil
	}
	for i := 0; err == nil && i < len(t.Origins); i++ {
		c := &t.Origins[i]
		switch c.Name {
		case "@file":
			err = c.SetString(p, l.File)
		case "@line":
			err = c.SetInt(p, l.Line)
		case "@offset":
			err = c.SetInt(p, l.Offset)
		case "@timestamp":
			err = c.SetTime(p, l.Arrived)
		}
		if err != nil {
			out.Reject(record, leat.Decode, fieldError(c.Name, err))
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("parquetsource: dead letter %s (%s, row %d): %w", l.ID, l.File, l.Line, err)
	}
	out.Append(*r, record)
	return nil
}

// errorIsField tells a fault of a value.
func errorIsField(err error) bool {
	var f interface{ Field() (column, rule string) }
	return errors.As(err, &f)
}
