package kafkasource

import (
	"testing"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// A crash or failure at each call that the engine makes: nothing is lost, nothing is
// there twice.
func TestRecovery(t *testing.T) {
	t.Parallel()
	for _, group := range []string{"", "g"} {
		t.Run("group "+group, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 2, "in")
			w.fill("in", 2, 0, 20)
			w.put("in", 1, `{"id":"x"}`)
			leattest.TestRecovery(t, leattest.RecoveryHarness[rec]{
				Build: func(_ *testing.T, dir string) *leat.Pipeline {
					c := drain(w.member(group, "in"))
					if group != "" {
						c.Group = group + dir // each trial is a group of its own
					}
					c.ChunkRows = 3
					p := leat.New("test", leat.Config{CheckpointEvery: time.Millisecond})
					leat.To(leat.From(p, New(c)), leattest.Collect[rec]().In(dir))
					return p
				},
				ReadBack: func(_ *testing.T, dir string) []rec { return leattest.Collect[rec]().In(dir).Committed() },
				Want:     readAll(t, w), RealTime: true, Trials: 40,
			})
		})
	}
}

func readAll(t *testing.T, w *world) []rec {
	t.Helper()
	rows, _ := life(t, t.TempDir(), drain(w.config("in")))
	return rows
}
