package sqlitepage

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"github.com/leatgo/leat/internal/row"
)

// step writes one column.
type step struct {
	code   code
	null   bool // the field may hold null
	offset uintptr
	column *row.Column

	// Of a time: the day last seen, as text and as its first second.
	date [len(time.DateOnly)]byte
	from int64
}

type code uint8

const (
	stepInt64 code = iota // and time.Duration
	stepInt32
	stepInt16
	stepInt8
	stepUint64
	stepUint32
	stepUint16
	stepUint8 // and bool
	stepFloat64
	stepFloat32
	stepString
	stepBytes
	stepDateTime // time.DateTime
	stepDate     // time.DateOnly
	stepRFC3339  // time.RFC3339Nano
	stepTime     // another layout
	stepText     // MarshalText
	stepRowid    // the INTEGER PRIMARY KEY: NULL in the record
)

// compile makes the steps.
func (m *Image) compile(columns []*row.Column, key int) error {
	m.slack = margin
	most := 0
	for i, c := range columns {
		s := step{column: c, null: c.Null}
		s.offset, _ = c.Fixed()
		var err error
		if s.code, err = codeOf(c); err != nil {
			return err
		}
		if !s.newDay(0) {
			return fmt.Errorf("column %s: no text for 1970", c.Name)
		}
		if i == key {
			if _, ok := s.integerAt(unsafe.Pointer(new(int64))); !ok || s.null {
				return fmt.Errorf("column %s: a %v is no rowid", c.Name, c.Type)
			}
			k := s
			m.key = &k
			s.code, s.null = stepRowid, false
		}
		value, typ := s.most()
		m.slack += value + typ
		most += typ
		m.steps = append(m.steps, s)
	}
	for i, j := 0, len(m.steps)-1; i < j; i, j = i+1, j-1 {
		m.steps[i], m.steps[j] = m.steps[j], m.steps[i]
	}
	m.types = make([]byte, most)
	return nil
}

func codeOf(c *row.Column) (code, error) {
	switch c.Kind {
	case row.Bool:
		return stepUint8, nil
	case row.Duration:
		return stepInt64, nil
	case row.Int:
		switch c.Bits {
		case 64:
			return stepInt64, nil
		case 32:
			return stepInt32, nil
		case 16:
			return stepInt16, nil
		}
		return stepInt8, nil
	case row.Uint:
		switch c.Bits {
		case 64:
			return stepUint64, nil
		case 32:
			return stepUint32, nil
		case 16:
			return stepUint16, nil
		}
		return stepUint8, nil
	case row.Float:
		if c.Bits == 32 {
			return stepFloat32, nil
		}
		return stepFloat64, nil
	case row.String:
		return stepString, nil
	case row.Bytes:
		return stepBytes, nil
	case row.Text:
		return stepText, nil
	case row.Time:
		switch c.Layout {
		case time.DateTime:
			return stepDateTime, nil
		case time.DateOnly:
			return stepDate, nil
		case time.RFC3339Nano:
			return stepRFC3339, nil
		}
		return stepTime, nil
	}
	return 0, fmt.Errorf("column %s: a %v has no SQL type", c.Name, c.Type)
}

// most is how many bytes the value and its type may take; those of a text that is
// looked at before it is copied do not count.
func (s *step) most() (value, typ int) {
	switch s.code {
	case stepRowid:
		return 0, 1
	case stepString, stepBytes, stepTime, stepText:
		return 0, 3
	case stepDateTime, stepDate, stepRFC3339:
		return len(time.RFC3339Nano), 3
	}
	return 8, 1
}

// integer reads the column of the row at p, which can't be null.
func (s *step) integer(p unsafe.Pointer) (int64, bool) { return s.integerAt(unsafe.Add(p, s.offset)) }

// integerAt reads the integer at q. It is false for one above those of SQLite, and for
// what is none.
func (s *step) integerAt(q unsafe.Pointer) (int64, bool) {
	switch s.code {
	case stepInt64:
		return *(*int64)(q), true
	case stepInt32:
		return int64(*(*int32)(q)), true
	case stepInt16:
		return int64(*(*int16)(q)), true
	case stepInt8:
		return int64(*(*int8)(q)), true
	case stepUint64:
		u := *(*uint64)(q)
		return int64(u), u <= math.MaxInt64
	case stepUint32:
		return int64(*(*uint32)(q)), true
	case stepUint16:
		return int64(*(*uint16)(q)), true
	case stepUint8:
		return int64(*(*uint8)(q)), true
	}
	return 0, false
}

// newDay sets the day of a second. It is false outside the years 0 to 9999, of which
// there is no text.
func (s *step) newDay(sec int64) bool {
	t := time.Unix(sec, 0).UTC()
	year, month, day := t.Date()
	if uint(year) > 9999 {
		return false
	}
	hour, minute, second := t.Clock()
	s.from = sec - int64(hour*3600+minute*60+second)
	put2(s.date[0:], uint(year/100))
	put2(s.date[2:], uint(year%100))
	s.date[4] = '-'
	put2(s.date[5:], uint(month))
	s.date[7] = '-'
	put2(s.date[8:], uint(day))
	return true
}

// appendText appends what is text only in the end: a time in the user's own layout, or
// what MarshalText says. It is false when there is none; why, the one finds out
// who writes the row the long way.
func (s *step) appendText(dst []byte, p, q unsafe.Pointer) (text []byte, fine bool) {
	if s.code == stepTime {
		t := (*time.Time)(q).UTC()
		if uint(t.Year()) > 9999 {
			return dst, false
		}
		return s.column.AppendTime(dst, t), true
	}
	defer func() {
		// Rule A9: user code that panics costs its row.
		if recover() != nil {
			text, fine = dst, false
		}
	}()
	v, err := s.column.Value(p)
	if err != nil || len(v.Str) > pageSize {
		// A text that fits into no leaf must not make the scratch as large as it is.
		return dst, false
	}
	return append(dst, v.Str...), true
}
