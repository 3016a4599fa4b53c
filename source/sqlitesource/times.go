package sqlitesource

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/leatgo/leat/internal/cursor"
	"github.com/leatgo/leat/internal/row"
)

// timeOrder watches over a cursor that is a time as text: SQLite sorts the text, and a row
// is missed if that is not the order of the times.
type timeOrder struct {
	column *row.Column // nil: it is no time

	size int // of the texts: those of one size, in a layout that begins with the year, sort as times do
	last time.Time
}

// check looks at one text, in whatever order it comes.
func (o *timeOrder) check(v cursor.Value) error {
	if o.column == nil || v.Kind != cursor.Text {
		return nil
	}
	if o.size == 0 {
		o.size = len(v.Str)
	}
	if o.size != len(v.Str) {
		return fmt.Errorf("the cursor %s is a time of %d characters in one row (%v) and of %d in others: such texts do not sort as times do, so that rows would be missed. "+
			"Write them in one width (2006-01-02T15:04:05.000Z), or read a Query with a cursor of one width: strftime('%%Y-%%m-%%dT%%H:%%M:%%fZ', …)", o.column.Name, len(v.Str), v, o.size)
	}
	return nil
}

// after looks at a text that comes behind all others.
func (o *timeOrder) after(v cursor.Value) error {
	if o.column == nil || v.Kind != cursor.Text {
		return nil
	}
	t, err := o.column.Time(v.Str)
	if err != nil {
		return nil // that row is rejected
	}
	if t.Before(o.last) {
		return fmt.Errorf("the cursor %s does not sort as the times that it holds do: SQLite gives %v after %s, so that rows would be missed; "+
			"read a Query with a cursor that begins with the year and is in one zone", o.column.Name, v, o.last.Format(time.RFC3339Nano))
	}
	o.last = t
	return nil
}

// measure gives nanoseconds since 1970. Years outside 1678 to 2261 are put at the ends.
func (o *timeOrder) measure(v cursor.Value) (int64, error) {
	if v.Kind != cursor.Text {
		return 0, fmt.Errorf("the cursor holds %s, %v, and Overlap is for times as text", v.Kind, v)
	}
	t, err := o.column.Time(v.Str)
	switch {
	case err != nil:
		return 0, fmt.Errorf("the cursor is no time, so that Overlap can't be found: %w", err)
	case t.Year() < 1678:
		return math.MinInt64, nil
	case t.Year() > 2261:
		return math.MaxInt64, nil
	}
	return t.UnixNano(), nil
}

// like writes a time in the layout that a text is in.
func (o *timeOrder) like(text string, at int64) (string, error) {
	t, err := o.column.Time(text)
	if err != nil {
		return "", err
	}
	for _, layout := range []string{o.column.Layout, layoutOf(text)} {
		// A layout of varying width is not the one that sorts.
		if out := time.Unix(0, at).UTC().Format(layout); layout != "" && t.UTC().Format(layout) == text && len(out) == len(text) {
			return out, nil
		}
	}
	return "", fmt.Errorf("the cursor %s holds %q, whose layout is not known: give the column its layout by a tag, `leat:\"%s,time=…\"`; it must be in UTC", o.column.Name, text, o.column.Name)
}

// layoutOf finds the layout of 2025-01-02 03:04:05.678Z and the like.
func layoutOf(text string) string {
	if len(text) < len(time.DateOnly) {
		return ""
	}
	layout, rest := time.DateOnly, text[len(time.DateOnly):]
	if len(rest) >= len("T15:04:05") {
		layout += rest[:1] + "15:04:05"
		rest = rest[len("T15:04:05"):]
		if strings.HasPrefix(rest, ".") {
			n := 1
			for n < len(rest) && rest[n]-'0' <= 9 {
				n++
			}
			layout += "." + strings.Repeat("0", n-1)
			rest = rest[n:]
		}
	}
	switch {
	case rest == "":
		return layout
	case rest == "Z":
		return layout + "Z"
	case len(rest) == len("+00:00"):
		return layout + "-07:00"
	}
	return ""
}
