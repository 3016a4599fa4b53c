//go:build unix

package kafkatorture

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat/internal/kafkatest"
)

const sigQuit = syscall.SIGQUIT

// brokerSession is how long the controller waits for a broker (broker.session.timeout.ms in .ci/servers/kafka.sh).
const brokerSession = 3 * time.Second

func fromJSON(b []byte) (r fila, err error) {
	if err = json.Unmarshal(b, &r); err == nil {
		err = r.check()
	}
	return r, err
}

// fault is a line of the table of what can happen.
type fault struct {
	name  string
	short bool // done also without LEAT_LONG=1
	do    func(ctx context.Context, w *world)
	// within is how long a partition may have no living owner. It is far more than the group
	// waits, for machines that are busy; the table has the true figure. 0: for ever.
	within time.Duration
}

var faults = []fault{
	{name: "none", do: func(context.Context, *world) {}},
	{name: "brokers killed", do: killBrokers},
	{name: "coordinators killed", short: true, do: killCoordinators},
	// Kafka 4.4 ends a transaction now and then in two ways when a coordinator is back before the others have noticed
	// that it was away, see docs/STATUS.md.
	{name: "coordinators back at once", do: func(ctx context.Context, w *world) { w.killCoordinators(ctx, true) }},
	{name: "one member killed", do: killOne, within: 4 * session},
	{name: "members killed", short: true, do: killMembers},
	{name: "members come and go", short: true, do: rebalance},
	{name: "connections cut", do: cutConnections},
	{name: "answers lost", do: loseAnswers},
	{name: "members frozen", short: true, do: freezeMembers},
	{name: "network silent", do: silence},
	{name: "silent in rebalances", short: true, do: func(ctx context.Context, w *world) {
		var both sync.WaitGroup
		for _, f := range []func(context.Context, *world){rebalance, silence} {
			both.Go(func() { f(ctx, w) })
		}
		both.Wait()
	}},
	{name: "PostgreSQL cut", do: cutPG},
	{name: "all at once", short: true, do: func(ctx context.Context, w *world) {
		var all sync.WaitGroup
		for _, f := range []func(context.Context, *world){killBrokers, killMembers, cutConnections, loseAnswers, freezeMembers, cutPG} {
			all.Go(func() { f(ctx, w) })
		}
		all.Wait()
	}},
}

// count adds to the figures of the table.
func (w *world) count(to *int, n int) {
	w.mu.Lock()
	*to += n
	w.mu.Unlock()
}

func (w *world) random(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

func (w *world) between(from, to time.Duration) time.Duration {
	return from + time.Duration(w.random(int((to-from)/time.Millisecond)))*time.Millisecond
}

func (w *world) anyMember() *member {
	all := w.alive()
	if len(all) == 0 {
		return nil
	}
	return all[w.random(len(all))]
}

// killBroker kills a node and starts it again: when the others have noticed, or at once, while they take it for alive.
func (w *world) killBroker(ctx context.Context, node int, atOnce bool) {
	if err := w.c.kill(node); err != nil {
		w.t.Error(err)
	}
	w.count(&w.counts.kills, 1)
	away := w.between(brokerSession+time.Second, brokerSession+3*time.Second)
	if atOnce {
		away = w.between(brokerSession/3, brokerSession)
	}
	pause(ctx, away)
	if err := w.c.heal(context.WithoutCancel(ctx)); err != nil {
		w.t.Error(err)
	}
}

// killBrokers kills one after the other.
func killBrokers(ctx context.Context, w *world) {
	for node := 1 + w.random(nodes); ctx.Err() == nil; node = node%nodes + 1 {
		pause(ctx, w.between(time.Second, 2*time.Second))
		if ctx.Err() == nil {
			w.killBroker(ctx, node, false)
		}
	}
}

// killCoordinators kills the node that keeps a group, or the transactions of a member.
func killCoordinators(ctx context.Context, w *world) { w.killCoordinators(ctx, false) }

func (w *world) killCoordinators(ctx context.Context, atOnce bool) {
	for i := 0; ctx.Err() == nil; i++ {
		pause(ctx, w.between(time.Second, 2*time.Second))
		p := w.pipes[w.random(len(w.pipes))]
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		node := int32(-1)
		if groups := w.c.adm.FindGroupCoordinators(short, groupOf(w.name, p)); groups.Error() == nil {
			for _, c := range groups {
				node = c.NodeID
			}
		}
		cancel()
		if node > 0 && ctx.Err() == nil {
			w.killBroker(ctx, int(node), atOnce)
		}
	}
}

// killOne kills one, and nobody takes its place: the others have to wait for the session timeout, and
// not longer.
func killOne(ctx context.Context, w *world) {
	pause(ctx, 3*time.Second)
	if m := w.anyMember(); m != nil {
		m.kill()
		w.count(&w.counts.kills, 1)
	}
	<-ctx.Done()
}

// killMembers kills each in turn. Some are back at once, with their state, so that the group
// still waits for the dead one; some when the group has given up; some never, but a new one comes.
func killMembers(ctx context.Context, w *world) {
	var back sync.WaitGroup
	defer back.Wait()
	for i := 0; ctx.Err() == nil; i++ {
		pause(ctx, w.between(500*time.Millisecond, 2*time.Second))
		all := w.alive()
		if ctx.Err() != nil || len(all) == 0 {
			continue
		}
		m := all[0] // the one that has lived longest
		m.kill()
		w.count(&w.counts.kills, 1)
		later := []time.Duration{0, 500 * time.Millisecond, session + time.Second}[i%3]
		back.Go(func() {
			if pause(ctx, later); i%4 == 3 {
				w.join("")
			} else {
				w.join(m.state)
			}
		})
	}
}

// rebalance lets members join and leave, each second.
func rebalance(ctx context.Context, w *world) {
	for ctx.Err() == nil {
		pause(ctx, time.Second)
		if ctx.Err() != nil {
			return
		}
		all := w.alive()
		if len(all) <= 1 || len(all) < 4 && w.random(2) == 0 {
			w.join("")
		} else {
			m := all[w.random(len(all))]
			m.order()
			go m.leave()
		}
		w.count(&w.counts.rebalances, 1)
	}
}

// cutConnections cuts all of a member's, often.
func cutConnections(ctx context.Context, w *world) {
	for ctx.Err() == nil {
		pause(ctx, w.between(100*time.Millisecond, 700*time.Millisecond))
		if m := w.anyMember(); m != nil {
			w.count(&w.counts.cuts, m.proxy.cut())
		}
	}
}

// changes are requests that change something, whose answers are worth losing.
var changes = []kmsg.Key{kmsg.Produce, kmsg.EndTxn, kmsg.TxnOffsetCommit, kmsg.AddOffsetsToTxn, kmsg.AddPartitionsToTxn, kmsg.InitProducerID,
	kmsg.OffsetCommit, kmsg.JoinGroup, kmsg.SyncGroup, kmsg.Heartbeat, kmsg.LeaveGroup}

// loseAnswers cuts the connection on which an answer comes, before it or in the middle of it, though
// the broker has done what was asked.
func loseAnswers(ctx context.Context, w *world) {
	lose := func(of request, frame []byte) ([]byte, bool) {
		odds := 10
		if of.key == kmsg.EndTxn.Int16() || of.key == kmsg.TxnOffsetCommit.Int16() {
			odds = 4
		}
		if !slices.Contains(changes, kmsg.Key(of.key)) || ctx.Err() != nil || w.random(odds) > 0 {
			return frame, true
		}
		w.count(&w.counts.cuts, 1)
		return frame[:w.random(2)*w.random(len(frame))], false
	}
	for ctx.Err() == nil {
		for _, m := range w.alive() {
			m.proxy.losing(lose)
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// freezeMembers stops a process for longer than the group waits. When it goes on it believes that its
// partitions are its own still.
func freezeMembers(ctx context.Context, w *world) {
	for ctx.Err() == nil {
		pause(ctx, w.between(500*time.Millisecond, 1500*time.Millisecond))
		if m := w.anyMember(); m != nil && ctx.Err() == nil {
			m.freeze(ctx, w.between(session+time.Second, session+3*time.Second))
			w.count(&w.counts.rebalances, 1)
		}
	}
}

// silence does the same with its network.
func silence(ctx context.Context, w *world) {
	for ctx.Err() == nil {
		pause(ctx, w.between(500*time.Millisecond, 1500*time.Millisecond))
		if m := w.anyMember(); m != nil && ctx.Err() == nil {
			m.proxy.silence(ctx, w.between(session+time.Second, session+3*time.Second))
			w.count(&w.counts.cuts, 1)
		}
	}
}

// cutPG ends the sessions in which members keep state.
func cutPG(ctx context.Context, w *world) {
	for ctx.Err() == nil {
		pause(ctx, w.between(300*time.Millisecond, time.Second))
		n := w.inPG("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", w.name)
		w.count(&w.counts.cuts, int(n))
	}
}

// size is how many records each fault gets, and how long they take to come.
func size() (int64, time.Duration) {
	switch {
	case os.Getenv("LEAT_LONG") == "1":
		n := kafkatest.Number("LEAT_RECORDS", 1_000_000)
		return int64(n), time.Duration(n) * time.Second / 10_000
	case testing.Short():
		return 10_000, 8 * time.Second
	}
	n := kafkatest.Number("LEAT_RECORDS", 50_000)
	return int64(n), time.Duration(kafkatest.Number("LEAT_SECONDS", 12)) * time.Second
}

// Rules A3, E1–E9, H3, H4, J3: whatever happens, each row is there once, in each kind of sink.
func TestFaults(t *testing.T) {
	table := newTable("fault", "pipeline", "records", "kills", "rebalances", "cuts", "lost", "twice", "ownerless", "standstill", "settled", "took")
	defer table.log(t)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			if os.Getenv("LEAT_LONG") != "1" && (!f.short || testing.Short() && f.name != "all at once") && os.Getenv("LEAT_ALL") != "1" {
				t.Skip("LEAT_LONG=1 does this one too")
			}
			var names []string
			for _, p := range pipes {
				only := os.Getenv("LEAT_PIPE")
				if p.once && os.Getenv("LEAT_PG") == "" {
					if os.Getenv("CI") == "true" {
						t.Fatal("LEAT_PG is not set: it names a PostgreSQL database")
					}
					t.Logf("LEAT_PG is not set: %s is left out", p.name)
				} else if only == "" || strings.Contains(","+only+",", ","+p.name+",") {
					names = append(names, p.name)
				}
			}
			n, during := size()
			newWorld(t, n, during, names...).run(table, f)
		})
	}
}

// table gathers figures to print them in one piece.
type table struct {
	mu   sync.Mutex
	rows [][]string
}

func newTable(head ...string) *table { return &table{rows: [][]string{head}} }

func (t *table) add(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = fmt.Sprint(c)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows = append(t.rows, row)
}

func (t *table) log(tb testing.TB) {
	tb.Helper()
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, row := range t.rows {
		fmt.Fprintln(w, strings.Join(row, "\t")+"\t")
	}
	_ = w.Flush()
	tb.Logf("\n%s", b.String())
}
