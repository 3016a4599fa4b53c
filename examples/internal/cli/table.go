// Package cli is what the example programs share and leat has no part in: tables for people,
// flags, and an address at which metrics are shown.
package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Title begins a part of a report.
func Title(w io.Writer, s string) { fmt.Fprintf(w, "\n%s\n", s) }

// Table aligns its columns: text to the left, numbers to the right, which
// text/tabwriter can do for all columns or none.
type Table struct {
	w     io.Writer
	left  []bool
	width []int
	rows  [][]string
}

// NewTable begins with the titles of the columns. A - marks a column of text;
// without any title there is no line of titles.
func NewTable(w io.Writer, titles ...string) *Table {
	t := &Table{w: w, left: make([]bool, len(titles)), width: make([]int, len(titles))}
	for i, s := range titles {
		titles[i], t.left[i] = strings.CutPrefix(s, "-")
	}
	if strings.Join(titles, "") != "" {
		t.Row(titles...)
	}
	return t
}

// Row adds a line.
func (t *Table) Row(cells ...string) {
	for i, c := range cells {
		t.width[i] = max(t.width[i], utf8.RuneCountInString(c))
	}
	t.rows = append(t.rows, cells)
}

// Flush writes the table.
func (t *Table) Flush() {
	var b strings.Builder
	for _, cells := range t.rows {
		b.Reset()
		for i, c := range cells {
			pad := strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(c))
			if t.left[i] {
				b.WriteString("  " + c + pad)
			} else {
				b.WriteString("  " + pad + c)
			}
		}
		fmt.Fprintln(t.w, strings.TrimRight(b.String(), " "))
	}
}

// Count writes 1234567 as 1,234,567.
func Count(n int64) string { return groups(strconv.FormatInt(n, 10)) }

// Money writes two decimals.
func Money(f float64) string {
	whole, cents, _ := strings.Cut(strconv.FormatFloat(f, 'f', 2, 64), ".")
	return groups(whole) + "." + cents
}

func groups(digits string) string {
	digits, minus := strings.CutPrefix(digits, "-")
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	if minus {
		return "-" + digits
	}
	return digits
}
