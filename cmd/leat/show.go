package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/source/files"
)

// object prints the result of -json.
func (c *call) object(v any) error {
	enc := json.NewEncoder(c.out)
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

// table prints rows of cells, the head first.
func (c *call) table(head string, rows [][]any) {
	w := tabwriter.NewWriter(c.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(head, " ", "\t"))
	for _, r := range rows {
		for i, cell := range r {
			if i > 0 {
				fmt.Fprint(w, "\t")
			}
			text := fmt.Sprint(cell)
			if text == "" {
				text = "-"
			}
			fmt.Fprint(w, printable(text))
		}
		fmt.Fprintln(w)
	}
	_ = w.Flush()
}

// printable keeps control characters of names and messages from the terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}

func (c *call) say(format string, args ...any) { fmt.Fprintf(c.out, format+"\n", args...) }

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05")
}

// counted lists counts, the largest first.
func counted(m map[string]int) (rows [][]any) {
	names := slices.SortedFunc(maps.Keys(m), func(a, b string) int {
		if m[a] != m[b] {
			return m[b] - m[a]
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		rows = append(rows, []any{m[name], name})
	}
	return rows
}

// The JSON forms.
type (
	ledgerJSON struct {
		Source string     `json:"source"`
		Files  []fileJSON `json:"files"`
	}
	fileJSON struct {
		Name     string    `json:"name"`
		Hash     string    `json:"hash,omitempty"`
		Size     int64     `json:"size"`
		Offset   int64     `json:"offset"`
		Status   string    `json:"status"`
		Error    string    `json:"error,omitempty"`
		Drift    string    `json:"drift,omitempty"`
		Rows     int64     `json:"rows"`
		Rejected int64     `json:"rejected"`
		Attempt  int       `json:"attempt"`
		Entered  time.Time `json:"entered,omitzero"`
		Started  time.Time `json:"started,omitzero"`
		Finished time.Time `json:"finished,omitzero"`
		Seconds  float64   `json:"seconds"`
		MovedTo  string    `json:"moved_to,omitempty"`
	}
	heldJSON struct {
		Holder    string `json:"holder"`
		Pipeline  string `json:"pipeline,omitempty"`
		Sink      string `json:"sink,omitempty"`
		Partition string `json:"partition"`
		Next      *int64 `json:"next"` // null: nothing is held
		Resume    string `json:"resume,omitempty"`
		Log       string `json:"log,omitempty"`
	}
	nodeJSON struct {
		Name       string           `json:"name"`
		In         int64            `json:"in"`
		Out        int64            `json:"out"`
		Rejected   int64            `json:"rejected"`
		Filtered   int64            `json:"filtered"`
		Added      int64            `json:"added"`
		RejectedBy map[string]int64 `json:"rejected_by,omitempty"`
	}
	changeJSON struct {
		heldJSON
		To *int64 `json:"to"` // null: forgotten
	}
)

func fileOf(e *files.Entry) fileJSON {
	return fileJSON{e.Name, e.Hash, e.Size, e.Offset, e.Status, e.Error, e.Drift, e.Rows, e.Rejected, e.Attempt, e.Entered, e.Started, e.Finished, e.Duration().Seconds(), e.MovedTo}
}

func next(p leat.Position) *int64 {
	if !p.Known() {
		return nil
	}
	return &p.Next
}

func heldOf(h operate.Held) heldJSON {
	return heldJSON{h.Holder, h.Pipeline, h.Sink, h.Partition, next(h.Position), h.Position.Resume, h.Position.Log}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
