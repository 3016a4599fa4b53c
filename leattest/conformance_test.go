package leattest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

type sale struct {
	ID    int
	Notes []string
	Total *float64
}

func sales(n int) []sale {
	out := make([]sale, n)
	for i := range out {
		total := float64(i) / 4
		out[i] = sale{i, []string{fmt.Sprint("note ", i)}, &total}
	}
	return out
}

func toJSON(s sale) []byte { return must(json.Marshal(s)) }

func fromJSON(raw []byte) (s sale, err error) {
	err = json.Unmarshal(raw, &s)
	return s, err
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestRowsIsASource(t *testing.T) {
	t.Parallel()
	for name, source := range map[string]func() *leattest.MemSource[sale]{
		"one partition": func() *leattest.MemSource[sale] { return leattest.Rows(sales(50)...) },
		"partitions":    func() *leattest.MemSource[sale] { return leattest.Rows(sales(50)...).Partitions(3) },
		"gaps":          func() *leattest.MemSource[sale] { return leattest.Rows(sales(50)...).Gaps(7) },
		"bad rows":      func() *leattest.MemSource[sale] { return leattest.Rows(sales(50)...).RejectAt(7, errors.New("torn")) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leattest.TestSource(t, leattest.SourceHarness[sale]{
				New: func(_ *testing.T, size int) leat.Source[sale] {
					s := source().Raw(toJSON).Parse(fromJSON)
					if size > 0 {
						s.Batches(size)
					}
					return s
				},
			})
		})
	}
}

func TestEndlessRowsIsASource(t *testing.T) {
	t.Parallel()
	leattest.TestSource(t, leattest.SourceHarness[sale]{
		New: func(_ *testing.T, size int) leat.Source[sale] {
			return leattest.Rows(sales(30)...).Batches(size).Endless().Raw(toJSON).Parse(fromJSON)
		},
		Want:    sales(30),
		Endless: true,
	})
}

func TestCollectIsASink(t *testing.T) {
	t.Parallel()
	leattest.TestSink(t, leattest.SinkHarness[sale]{
		New: func(_ *testing.T, dir string) leat.Sink[sale] {
			return leattest.Collect[sale]().In(dir).RejectIf(func(s sale) error {
				if s.ID < 0 {
					return errors.New("no such sale")
				}
				return nil
			})
		},
		Row:      func(n int) sale { return sales(n + 1)[n] },
		ReadBack: func(_ *testing.T, dir string) []sale { return leattest.Collect[sale]().In(dir).Committed() },
		Bad:      func(n int) sale { return sale{ID: -n - 1} },
		Ambiguous: func(_ *testing.T, _ string, s leat.Sink[sale], took bool) {
			c := s.(*leattest.Collector[sale])
			c.AmbiguousCommit(c.Calls("Commit")+1, took)
		},
	})
}
