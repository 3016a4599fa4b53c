package stage_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

type checked struct {
	Name string `leat:"name" validate:"required"`
	N    int    `leat:"n" validate:"lt=30"`
}

// The contract of leat.Stage: the same output for every split and interleaving. The stages
// are made once, outside of the bubbles that they run in: that must work too.
func TestConformance(t *testing.T) {
	t.Parallel()
	bad := errors.New("bad")
	rows := make([]int, 45)
	for i := range rows {
		rows[i] = i
	}
	each := func(n int) (string, error) {
		switch n % 7 {
		case 3:
			return "", bad
		case 5:
			panic("no")
		}
		return fmt.Sprint("row ", n), nil
	}
	for name, st := range map[string]leat.Stage[int, string]{
		"Map":       stage.Map(each),
		"FilterMap": stage.FilterMap(func(n int) (string, bool, error) { s, err := each(n); return s, n%2 == 0, err }),
		"FlatMap": stage.FlatMap(func(n int) ([]string, error) {
			s, err := each(n)
			return []string{s, s + " again", s}[:n%4], err
		}),
		"Call": stage.Call(3, func(ctx context.Context, n int) (string, error) {
			select {
			case <-time.After(time.Duration(n%5) * time.Millisecond):
			case <-ctx.Done():
				return "", ctx.Err()
			}
			return each(n)
		}),
		"CallBatch": stage.CallBatch(func(_ context.Context, in []int) (out []string, err error) {
			for _, n := range in {
				s, err := each(n)
				if err != nil {
					return nil, err
				}
				out = append(out, s)
			}
			return out, nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leattest.TestStage(t, func() leat.Stage[int, string] { return st }, rows...)
		})
	}
	for name, st := range map[string]leat.Stage[int, int]{
		"Filter": stage.Filter(func(n int) bool { return n%3 > 0 }),
		"Check": stage.Check(func(n int) error {
			if n%3 == 0 {
				return bad
			}
			return nil
		}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leattest.TestStage(t, func() leat.Stage[int, int] { return st }, rows...)
		})
	}
	t.Run("Validate", func(t *testing.T) {
		t.Parallel()
		var in []checked
		for i := range 45 {
			in = append(in, checked{[]string{"", "ana", "leo"}[i%3], i})
		}
		leattest.TestStage(t, stage.Validate[checked], in...)
	})
}
