package leattest_test

import (
	"errors"
	"testing"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

func recoveryOf(build func(dir string) *leat.Pipeline, want []int) leattest.RecoveryHarness[int] {
	return leattest.RecoveryHarness[int]{
		Build: func(_ *testing.T, dir string) *leat.Pipeline { return build(dir) },
		ReadBack: func(_ *testing.T, dir string) []int {
			return leattest.Collect[int]().In(dir).Committed()
		},
		Want: want,
	}
}

func TestRecoveryOfCollect(t *testing.T) {
	t.Parallel()
	var want []int
	for i := range 60 {
		if i%7 != 3 && i != 20 {
			want = append(want, i*10)
		}
	}
	leattest.TestRecovery(t, recoveryOf(func(dir string) *leat.Pipeline {
		p := leat.New("test", leat.Config{})
		rows := leat.From(p, leattest.Rows(ints(60)...).Partitions(2).Batches(5).Gaps(3))
		made := leat.Via(rows, "tens", stage.Map(func(i int) (int, error) {
			if i%7 == 3 {
				return 0, errors.New("not this one")
			}
			return i * 10, nil
		}))
		sink := leattest.Collect[int]().In(dir).RejectIf(func(i int) error {
			if i == 200 {
				return errors.New("not 200")
			}
			return nil
		})
		leat.To(made, sink)
		return p
	}, want))
}

func ints(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}
