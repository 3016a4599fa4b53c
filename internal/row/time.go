package row

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// layoutKind tells the layouts that have a fast path from the others.
type layoutKind uint8

const (
	layoutDefault  layoutKind = iota // no time= option: several forms are read
	layoutDateTime                   // time.DateTime
	layoutDateOnly                   // time.DateOnly
	layoutOther
)

func layoutKindOf(layout string) layoutKind {
	switch layout {
	case time.DateTime:
		return layoutDateTime
	case time.DateOnly:
		return layoutDateOnly
	}
	return layoutOther
}

// dateTimeT is time.DateTime with RFC 3339's separator.
const dateTimeT = "2006-01-02T15:04:05"

// parseTime reads what time.Parse reads. The fast paths only ever say yes; what
// they do not know is left to the time package, so that both always agree.
func (c *Column) parseTime(s string) (time.Time, error) {
	switch c.layout {
	case layoutDefault:
		return c.parseDefaultTime(s)
	case layoutDateTime:
		if len(s) == len(time.DateTime) && s[10] == ' ' {
			if sec, valid := fastDateTime(s); valid {
				return time.Unix(sec, 0).UTC(), nil
			}
		}
	case layoutDateOnly:
		if len(s) == len(time.DateOnly) {
			if sec, valid := fastDate(s); valid {
				return time.Unix(sec, 0).UTC(), nil
			}
		}
	}
	// In UTC, not time.Parse: that looks at the zone of the machine, and the same
	// file must give the same rows everywhere.
	t, err := time.ParseInLocation(c.Layout, s, time.UTC)
	if err != nil {
		return t, c.failTime(s, err)
	}
	return t, nil
}

// parseDefaultTime reads RFC 3339, and the forms that databases and spreadsheets
// write for UTC: with a space, without a zone, without a clock.
func (c *Column) parseDefaultTime(s string) (time.Time, error) {
	if len(s) == len(time.DateOnly) {
		if sec, valid := fastDate(s); valid {
			return time.Unix(sec, 0).UTC(), nil
		}
	}
	if len(s) >= len(time.DateTime) && (s[10] == 'T' || s[10] == ' ') {
		if sec, valid := fastDateTime(s); valid {
			tail := s[len(time.DateTime):]
			if s[10] == 'T' {
				tail = strings.TrimSuffix(tail, "Z")
			}
			if nsec, valid := fastFraction(tail); valid {
				return time.Unix(sec, nsec).UTC(), nil
			}
		}
	}
	t, err := slowDefaultTime(s)
	if err != nil {
		return t, c.failTime(s, err)
	}
	return t, nil
}

// slowDefaultTime defines the default forms; the fast path is tested against it.
func slowDefaultTime(s string) (time.Time, error) {
	t, err := time.ParseInLocation(time.RFC3339Nano, s, time.UTC)
	if err == nil {
		return t, nil
	}
	for _, layout := range [...]string{time.DateTime, dateTimeT, time.DateOnly} {
		t, again := time.ParseInLocation(layout, s, time.UTC)
		if again == nil {
			return t, nil
		}
		// "month out of range" tells more than "cannot parse as T".
		if outOfRangeIn(again) != "" {
			err = again
		}
	}
	return time.Time{}, err
}

// fastDateTime reads 2006-01-02?15:04:05 at the start of s as UTC; the caller has
// looked at the separator and the length.
func fastDateTime(s string) (int64, bool) {
	day, valid := fastDate(s)
	_ = s[18]
	if !valid || s[13] != ':' || s[16] != ':' {
		return 0, false
	}
	hour, minute, sec := two(s[11], s[12]), two(s[14], s[15]), two(s[17], s[18])
	if hour > 23 || minute > 59 || sec > 59 {
		return 0, false
	}
	return day + int64(hour*3600+minute*60+sec), true
}

// fastDate reads 2006-01-02 at the start of s as seconds since 1970.
func fastDate(s string) (int64, bool) {
	_ = s[9]
	if s[4] != '-' || s[7] != '-' {
		return 0, false
	}
	century, year, month, day := two(s[0], s[1]), two(s[2], s[3]), two(s[5], s[6]), two(s[8], s[9])
	if century > 99 || year > 99 || month-1 > 11 || day == 0 {
		return 0, false
	}
	year += century * 100
	if day > 28 && day > daysIn(month, year) {
		return 0, false
	}
	return 86400 * daysSince1970(int64(year), int64(month), int64(day)), true
}

// fastFraction reads "" or a point and up to 9 digits as nanoseconds.
func fastFraction(s string) (int64, bool) {
	if s == "" {
		return 0, true
	}
	if s[0] != '.' || len(s) < 2 || len(s) > 10 {
		return 0, false
	}
	var n int64
	for i := 1; i < 10; i++ {
		n *= 10
		if i < len(s) {
			d := s[i] - '0'
			if d > 9 {
				return 0, false
			}
			n += int64(d)
		}
	}
	return n, true
}

// two reads two digits; anything else gives more than 99.
func two(a, b byte) uint {
	x, y := uint(a-'0'), uint(b-'0')
	if x > 9 || y > 9 {
		return 100
	}
	return x*10 + y
}

func daysIn(month, year uint) uint {
	if month == 2 {
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 30 + (month+month>>3)&1
}

// daysSince1970 counts with years that start in March, so that the leap day
// comes last and the lengths of the months follow one formula.
func daysSince1970(y, m, d int64) int64 {
	if m <= 2 {
		y--
		m += 12
	}
	// One whole era of 400 years more keeps year 0 from dividing a negative number.
	y += 400
	return 365*y + y/4 - y/100 + y/400 + (153*(m-3)+2)/5 + d - 1 - 719468 - 146097
}

func (c *Column) failTime(s string, err error) error {
	if s == "" {
		return c.failEmpty()
	}
	rule, msg := RuleSyntax, "is not a time in the layout "+c.Layout
	if c.layout == layoutDefault {
		msg = "is not a time such as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05"
	}
	if what := outOfRangeIn(err); what != "" {
		rule = RuleRange
		msg = fmt.Sprintf("%s (%s)", msg, what)
	} else {
		msg += hint(Time, s)
	}
	return c.fail(rule, s, msg, nil)
}

// outOfRangeIn returns "month out of range" and the like, or "".
func outOfRangeIn(err error) string {
	var pe *time.ParseError
	if errors.As(err, &pe) && strings.HasSuffix(pe.Message, "out of range") {
		return strings.TrimPrefix(pe.Message, ": ")
	}
	return ""
}

// AppendTime appends t in the column's layout, in UTC. The column's kind must be Time.
func (c *Column) AppendTime(dst []byte, t time.Time) []byte {
	t = t.UTC()
	switch c.layout {
	case layoutDateTime, layoutDateOnly:
		year, month, day := t.Date()
		if uint(year) > 9999 {
			break
		}
		dst = append2(dst, year/100)
		dst = append2(dst, year%100)
		dst = append2(append(dst, '-'), int(month))
		dst = append2(append(dst, '-'), day)
		if c.layout == layoutDateTime {
			hour, minute, sec := t.Clock()
			dst = append2(append(dst, ' '), hour)
			dst = append2(append(dst, ':'), minute)
			dst = append2(append(dst, ':'), sec)
		}
		return dst
	}
	return t.AppendFormat(dst, c.Layout)
}

func append2(dst []byte, v int) []byte {
	return append(dst, byte('0'+v/10), byte('0'+v%10))
}
