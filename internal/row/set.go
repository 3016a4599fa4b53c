package row

import (
	"math"
	"strconv"
	"time"
	"unsafe"
)

// SetFloat sets a Float column. A float32 gets the nearest value that it holds; what is
// beyond its largest one is out of range, infinities are not.
func (c *Column) SetFloat(p unsafe.Pointer, v float64) error {
	if c.Kind != Float {
		return c.fail(RuleType, strconv.FormatFloat(v, 'g', -1, 64), "is a number, but the column holds "+c.holds(), nil)
	}
	if c.Bits == 32 {
		f := float32(v)
		if math.IsInf(float64(f), 0) && !math.IsInf(v, 0) {
			return c.failRange(strconv.FormatFloat(v, 'g', -1, 64))
		}
		q := c.begin(p)
		*(*float32)(q) = f
		c.commit(p, q)
		return nil
	}
	q := c.begin(p)
	*(*float64)(q) = v
	c.commit(p, q)
	return nil
}

// SetBool sets a Bool column.
func (c *Column) SetBool(p unsafe.Pointer, v bool) error {
	if c.Kind != Bool {
		return c.fail(RuleType, strconv.FormatBool(v), "is a bool, but the column holds "+c.holds(), nil)
	}
	q := c.begin(p)
	*(*bool)(q) = v
	c.commit(p, q)
	return nil
}

// SetBytes sets a Bytes column, which keeps v.
func (c *Column) SetBytes(p unsafe.Pointer, v []byte) error {
	if c.Kind != Bytes {
		return c.fail(RuleType, "", strconv.Itoa(len(v))+" bytes are no text, and the column holds "+c.holds(), nil)
	}
	q := c.begin(p)
	*(*[]byte)(q) = v
	c.commit(p, q)
	return nil
}

// Time reads text as Parse does for a Time column, and sets nothing.
func (c *Column) Time(text string) (time.Time, error) { return c.parseTime(text) }

// Refuse is the error of a value that the column does not take, in the words of the
// others: Value is what it was, Msg goes on behind it.
func (c *Column) Refuse(rule, value, msg string) error { return c.fail(rule, value, msg, nil) }

// Holds names what the column's values are, for messages: "int64", "time".
func (c *Column) Holds() string { return c.holds() }
