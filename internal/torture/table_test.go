package torture

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
)

// table gathers the figures of tests that run in parallel, to print them in one piece.
type table struct {
	mu   sync.Mutex
	head []string
	rows [][]string
}

func newTable(head ...string) *table { return &table{head: head} }

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, row)
}

// count tells how many rows have this in a column.
func (t *table) count(column, is string) (n int) {
	at := slices.Index(t.head, column)
	for _, r := range t.rows {
		if r[at] == is {
			n++
		}
	}
	return n
}

func (t *table) log(tb testing.TB, title string) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	slices.SortStableFunc(t.rows, func(a, b []string) int { return slices.Compare(a[:min(2, len(a))], b[:min(2, len(b))]) })
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range append([][]string{t.head}, t.rows...) {
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	_ = w.Flush()
	tb.Logf("%s:\n%s", title, b.String())
}
