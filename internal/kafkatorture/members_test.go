//go:build unix

package kafkatorture

import (
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/kafkatest"
)

// What several members do: processes, and replicas within one process. It only prints.
func TestMembers(t *testing.T) {
	if os.Getenv("LEAT_MEMBERS") != "1" {
		t.Skip("LEAT_MEMBERS=1 measures")
	}
	w := newWorld(t, int64(kafkatest.Number("LEAT_RECORDS", 2_000_000)), 0)
	require.NoError(t, w.produce(t.Context()))
	table := newTable("pipeline", "processes", "replicas each", "records", "seconds", "records/s")
	defer table.log(t)
	for _, name := range []string{"kafka", "sqlite", "parquet"} {
		for _, n := range [][2]int{{1, 1}, {2, 1}, {4, 1}, {1, 2}, {1, 4}} {
			t.Run(fmt.Sprintf("%s %dx%d", name, n[0], n[1]), func(t *testing.T) {
				took := w.drainWith(t, name, n[0], n[1])
				table.add(name, n[0], n[1], w.records, fmt.Sprintf("%.1f", took.Seconds()), int(float64(w.records)/took.Seconds()))
			})
		}
	}
}

// drainWith reads the input with so many members, each of so many replicas.
func (w *world) drainWith(t *testing.T, name string, processes, replicas int) time.Duration {
	t.Helper()
	part := newWorld(t, w.records, 0, name) // with outputs of its own
	var all []*member
	begun := time.Now()
	for i := range processes {
		s := part.settings(fmt.Sprintf("%s-m%d", part.name, i), fmt.Sprint(i))
		s.In, s.Drain, s.Direct, s.Replicas, s.Checkpoint = w.name+"-in", true, true, replicas, time.Second
		all = append(all, launch(t, s, func(*member) {}))
	}
	for _, m := range all {
		<-m.done
		require.NoError(t, m.err, "%v; %s", m.lines(), m.log)
	}
	took := time.Since(begun)
	d := part.compare(pipeNamed(name))
	require.True(t, d.none(), "%v", d)
	return took
}
