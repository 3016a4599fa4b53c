package own_test

import (
	"path/filepath"
	"testing"

	"example.com/downstream/own"
	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// The contract of leat.Sink, for several kinds of rows.
func TestJournalIsASink(t *testing.T) {
	file := func(dir string) string { return filepath.Join(dir, "journal.json") }
	for name, row := range map[string]func(n int) own.Balance{
		"plain":       func(n int) own.Balance { return own.Balance{Account: "ana", Cents: int64(n), Holds: int64(n)} },
		"odd letters": func(n int) own.Balance { return own.Balance{Account: "\"ñ\" </script>\n", Cents: int64(-n)} },
	} {
		t.Run(name, func(t *testing.T) {
			leattest.TestSink(t, leattest.SinkHarness[own.Balance]{
				New: func(_ *testing.T, dir string) leat.Sink[own.Balance] {
					return own.NewJournal[own.Balance](file(dir))
				},
				Row: row,
				ReadBack: func(t *testing.T, dir string) []own.Balance {
					rows, err := own.ReadJournal[own.Balance](file(dir))
					if err != nil {
						t.Fatal(err)
					}
					return rows
				},
			})
		})
	}
}
