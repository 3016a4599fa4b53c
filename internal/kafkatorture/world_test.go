//go:build unix

package kafkatorture

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
)

const (
	inPartitions  = 6
	outPartitions = 3
)

// world is an input topic, members that read it, and what they write.
type world struct {
	t       *testing.T
	c       *cluster
	name    string
	base    string
	pipes   []pipe
	records int64
	during  time.Duration // how long the records take to come
	rng     *rand.Rand    // of the goroutine that does the faults

	mu      sync.Mutex
	members []*member
	serial  int
	trouble []string // members that ended by themselves
	sure    atomic.Int64
	counts  struct{ kills, rebalances, cuts int }
	watched map[string]*watched // by pipeline
}

func newWorld(t *testing.T, records int64, during time.Duration, names ...string) *world {
	t.Helper()
	c := brokers(t)
	seed := seedOf(t)
	w := &world{t: t, c: c, name: fmt.Sprintf("w%x", rand.Uint32()), records: records, during: during, rng: rand.New(rand.NewPCG(seed, 1)), watched: map[string]*watched{}}
	w.base = filepath.Join(workDir(t), w.name)
	require.NoError(t, os.MkdirAll(filepath.Join(w.base, "out"), 0o755))
	require.NoError(t, c.heal(t.Context()))
	c.topic(t, w.name+"-in", inPartitions)
	topics := []string{w.name + "-in"}
	for _, name := range names {
		p := pipeNamed(name)
		w.pipes = append(w.pipes, p)
		for _, topic := range p.topics {
			c.topic(t, w.name+"-"+topic, outPartitions)
			topics = append(topics, w.name+"-"+topic)
		}
	}
	t.Cleanup(func() {
		w.mu.Lock()
		all := slices.Clone(w.members)
		w.mu.Unlock()
		for _, m := range all {
			m.kill()
		}
		c.drop(topics)
		w.inPG("DROP SCHEMA IF EXISTS " + pgx.Identifier{"leat_" + w.name}.Sanitize() + " CASCADE") // what members kept there
	})
	return w
}

// pgOf is the database of LEAT_PG for members of a world, whose connections say so; "" if there is none.
func pgOf(world string) string {
	dsn := os.Getenv("LEAT_PG")
	u, err := url.Parse(dsn)
	if dsn == "" || err != nil {
		return dsn
	}
	q := u.Query()
	q.Set("application_name", world)
	u.RawQuery = q.Encode()
	return u.String()
}

// inPG runs a statement, if there is a database.
func (w *world) inPG(statement string, args ...any) (changed int64) {
	dsn := os.Getenv("LEAT_PG")
	if dsn == "" {
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err == nil {
		defer conn.Close(ctx)
		tag, err2 := conn.Exec(ctx, statement, args...)
		changed, err = tag.RowsAffected(), err2
	}
	if err != nil {
		w.t.Log(err)
	}
	return changed
}

// workDir keeps what is left when the test fails, if LEAT_KEEP names a folder.
func workDir(t *testing.T) string {
	if dir := os.Getenv("LEAT_KEEP"); dir != "" {
		return dir
	}
	return t.TempDir()
}

// seedOf is LEAT_SEED, which repeats the faults as far as the schedulers let it.
func seedOf(t *testing.T) uint64 {
	s, err := strconv.ParseUint(os.Getenv("LEAT_SEED"), 10, 64)
	if err != nil {
		s = rand.Uint64()
	}
	t.Logf("LEAT_SEED=%d", s)
	return s
}

func (w *world) out(name string) string { return filepath.Join(w.base, "out", name) }

func (w *world) settings(name, state string) settings {
	var names []string
	for _, p := range w.pipes {
		names = append(names, p.name)
	}
	return settings{
		Pipes: names, PG: pgOf(w.name), Name: name, In: w.name + "-in", World: w.name, Brokers: w.c.brokers, Base: w.base,
		State: filepath.Join(w.base, "state", state), Checkpoint: 200 * time.Millisecond,
	}
}

// join starts a member. state names its folder; "" is a new one.
func (w *world) join(state string) *member {
	w.mu.Lock()
	w.serial++
	name := fmt.Sprintf("%s-m%d", w.name, w.serial)
	w.mu.Unlock()
	if state == "" {
		state = name
	}
	m := launch(w.t, w.settings(name, state), w.exited)
	m.state = state
	w.mu.Lock()
	w.members = append(w.members, m)
	w.mu.Unlock()
	return m
}

// exited: no fault is a reason for a member to end by itself.
func (w *world) exited(m *member) {
	w.mu.Lock()
	w.trouble = append(w.trouble, fmt.Sprintf("%s ended by itself: %v: %s", m.name, m.err, strings.Join(m.lines(), "; ")))
	w.mu.Unlock()
	w.join(m.state)
}

func (w *world) alive() (out []*member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.members {
		if m.alive() {
			out = append(out, m)
		}
	}
	return out
}

// produce sends all records, evenly over w.during. The producer is idempotent and waits for all replicas,
// so each is there once.
func (w *world) produce(ctx context.Context) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.c.brokers...), kgo.DefaultProduceTopic(w.name+"-in"),
		kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(5*time.Millisecond), kgo.MaxBufferedRecords(50_000))
	if err != nil {
		return err
	}
	defer cl.Close()
	var bad atomic.Pointer[error]
	start := time.Now()
	for n := int64(1); n <= w.records && ctx.Err() == nil && bad.Load() == nil; n++ {
		key, value := record(n)
		cl.Produce(ctx, &kgo.Record{Key: key, Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				bad.Store(&err)
			}
			w.sure.Add(1)
		})
		if n%256 == 0 {
			pause(ctx, time.Until(start.Add(time.Duration(float64(w.during)*float64(n)/float64(w.records)))))
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if err := bad.Load(); err != nil {
		return *err
	}
	return ctx.Err()
}

// lag is how many records the groups have not committed; groups that have nothing at all count all.
func (w *world) lag(ctx context.Context) (map[string]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	ends, err := w.c.adm.ListEndOffsets(ctx, w.name+"-in")
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, err
	}
	out := map[string]int64{}
	for _, p := range w.pipes {
		at, err := w.c.adm.FetchOffsets(ctx, groupOf(w.name, p))
		if err != nil {
			return nil, err
		}
		for part := range int32(inPartitions) {
			end, _ := ends.Lookup(w.name+"-in", part)
			done, _ := at.Lookup(w.name+"-in", part)
			out[p.name] += end.Offset - max(0, done.At)
		}
	}
	return out, nil
}

// settle waits until the members have read everything.
func (w *world) settle(patience time.Duration) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	last := map[string]int64{}
	for ctx.Err() == nil {
		lag, err := w.lag(ctx)
		if err == nil {
			last = lag
			total := int64(0)
			for _, n := range lag {
				total += n
			}
			if total == 0 {
				return
			}
		}
		pause(ctx, 300*time.Millisecond)
	}
	for _, m := range w.alive() {
		m.order()
		_ = m.cmd.Process.Signal(sigQuit) // says where it hangs
	}
	w.fail("after %v without faults the members have not read everything; records that are not committed: %v", patience, last)
}

// drain ends the members, and lets one last process read what may be left.
func (w *world) drain() {
	w.t.Helper()
	w.mu.Lock()
	all := slices.Clone(w.members)
	w.mu.Unlock()
	for _, m := range all {
		m.leave()
	}
	s := w.settings(w.name+"-last", w.name+"-last")
	s.Drain = true
	failed := false
	m := launch(w.t, s, func(m *member) {})
	select {
	case <-m.done:
		failed = m.err != nil
	case <-time.After(2 * time.Minute):
		_ = m.cmd.Process.Signal(sigQuit)
		<-m.done
		failed = true
	}
	if failed {
		w.fail("the last process, without faults, did not end: %v: %v", m.err, m.lines())
	}
}

// fail ends the test.
func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.keepLogs()
	w.t.Fatalf(format, args...)
}

// keepLogs saves what members and brokers have logged from the end of the test.
func (w *world) keepLogs() {
	w.t.Helper()
	dir := filepath.Join(os.TempDir(), "leat-kafkatorture-"+w.name)
	err := os.CopyFS(dir, os.DirFS(filepath.Join(w.base, "log")))
	for node := 1; node <= nodes; node++ {
		for _, name := range []string{"log.old", "log"} {
			if b, err := os.ReadFile(filepath.Join(w.c.Dir, fmt.Sprint("node-", node), name)); err == nil {
				_ = os.WriteFile(filepath.Join(dir, fmt.Sprintf("broker-%d.%s", node, name)), b, 0o644)
			}
		}
	}
	w.t.Logf("logs: %s (%v)", dir, err)
}

// marker is how the log of a partition says that a producer's transaction ended of which a record is at offset. When a
// reader of committed records has seen one that was aborted, it is the broker that told it wrong.
func (w *world) marker(name string, partition int32, producer, offset int64) string {
	topic := w.name + "-" + name
	ctx, cancel := context.WithTimeout(w.t.Context(), 20*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.c.brokers...), kgo.KeepControlRecords(), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {partition: kgo.NewOffset().At(offset)}}))
	if err != nil {
		return err.Error()
	}
	defer cl.Close()
	for ctx.Err() == nil {
		for it := cl.PollFetches(ctx).RecordIter(); !it.Done(); {
			r := it.Next()
			if r.ProducerID != producer || !r.Attrs.IsControl() {
				continue
			}
			end := "aborted"
			if kind := kmsg.NewControlRecordKey(); kind.ReadFrom(r.Key) == nil && kind.Type == kmsg.ControlRecordKeyTypeCommit {
				end = "committed"
			}
			return fmt.Sprintf("%s at %d (epoch %d)", end, r.Offset, r.ProducerEpoch)
		}
	}
	return "never ended"
}

// whoWrote logs which producers wrote rows that are twice in the topics of p, or lost, and where.
func (w *world) whoWrote(p pipe) {
	w.t.Helper()
	type run struct {
		partition         int32
		first, second     int64 // producers
		firstEp, secondEp int16
	}
	type span struct{ rows, from, to, at, until, again, end int64 }
	for _, name := range p.topics {
		seen, twice := map[int64]*kgo.Record{}, map[run]*span{}
		err := w.eachRecord(name, func(r *kgo.Record) error {
			n, err := markOf(r.Value)
			if err != nil {
				return err
			}
			was := seen[n]
			if was == nil {
				r.Value, r.Key, r.Headers = nil, nil, nil
				seen[n] = r
				return nil
			}
			key := run{r.Partition, was.ProducerID, r.ProducerID, was.ProducerEpoch, r.ProducerEpoch}
			s := twice[key]
			if s == nil {
				s = &span{from: n, at: was.Offset, again: r.Offset}
				twice[key] = s
			}
			s.rows++
			s.to, s.until, s.end = n, was.Offset, r.Offset
			return nil
		})
		for k, s := range twice {
			w.t.Logf("topic %s, partition %d: %d rows, %d to %d, were written by producer %d (epoch %d) at %d to %d, and by producer %d (epoch %d) at %d to %d; %s, %s",
				name, k.partition, s.rows, s.from, s.to, k.first, k.firstEp, s.at, s.until, k.second, k.secondEp, s.again, s.end,
				w.marker(name, k.partition, k.first, s.until), w.marker(name, k.partition, k.second, s.end))
		}
		type unit struct {
			partition int32
			producer  int64
			epoch     int16
		}
		unseen, last := map[unit]int{}, map[unit]int64{}
		err2 := w.eachRecord(name, func(r *kgo.Record) error {
			n, err := markOf(r.Value)
			if err == nil && seen[n] == nil {
				u := unit{r.Partition, r.ProducerID, r.ProducerEpoch}
				unseen[u]++
				last[u] = r.Offset
			}
			return err
		}, kgo.FetchIsolationLevel(kgo.ReadUncommitted()))
		for u, n := range unseen {
			w.t.Logf("topic %s, partition %d: readers of committed records do not see %d rows of producer %d (epoch %d), up to %d; %s", name, u.partition, n, u.producer, u.epoch, last[u], w.marker(name, u.partition, u.producer, last[u]))
		}
		if err := errors.Join(err, err2); err != nil {
			w.t.Logf("topic %s: %v", name, err)
		}
	}
}

// damage is what a comparison has found.
type damage struct {
	rows, lost, twice int // of rows and letters together
	strange           []string
}

// compare says what is missing, and what is there twice.
func (w *world) compare(p pipe) (d damage) {
	strange := func(format string, args ...any) { d.strange = append(d.strange, fmt.Sprintf(format, args...)) }
	places, err := p.read(w)
	if err != nil {
		strange("reading the output: %v", err)
		return d
	}
	for i, rows := range places {
		got := map[int64]int{}
		for _, r := range rows {
			if p.once {
				got[r.Evento]++
			} else {
				got[r.N]++
			}
		}
		d.side(fmt.Sprintf("output %d", i), got, w.records, func(n int64) bool {
			return kindOf(n) == good || kindOf(n) == repeated && !p.once
		}, !p.least)
	}
	letters := map[int64]int{}
	exact := p.letters != nil
	var found []int64
	if exact {
		found, err = p.letters(w)
	} else {
		found, err = w.filedLetters(p)
	}
	if err != nil {
		strange("reading the letters: %v", err)
	}
	for _, n := range found {
		letters[n]++
	}
	// After a crash somebody else may write the same letter to a file of its own: who reads
	// several logs skips ids that it has seen (rule B3-2).
	d.side("letters", letters, w.records, func(n int64) bool { return kindOf(n) == undecodable || kindOf(n) == refused }, exact)
	return d
}

// side compares one place.
func (d *damage) side(where string, got map[int64]int, records int64, wanted func(n int64) bool, exact bool) {
	var lost, twice []int64
	for n := int64(1); n <= records; n++ {
		if !wanted(n) {
			continue
		}
		d.rows++
		switch c := got[n]; {
		case c == 0:
			lost = append(lost, n)
		case c > 1 && exact:
			twice = append(twice, n)
		}
		delete(got, n)
	}
	d.lost += len(lost)
	d.twice += len(twice)
	for what, ns := range map[string][]int64{"lost": lost, "twice": twice} {
		if len(ns) > 0 {
			d.strange = append(d.strange, fmt.Sprintf("%s: %s: %v …", where, what, ns[:min(len(ns), 10)]))
		}
	}
	for n := range got {
		d.strange = append(d.strange, fmt.Sprintf("%s: row %d does not belong there (and perhaps others, %d)", where, n, len(got)))
		break
	}
}

func (d damage) none() bool { return d.lost == 0 && d.twice == 0 && len(d.strange) == 0 }

// What is lost, twice or where it does not belong is seen.
func TestCompare(t *testing.T) {
	var d damage
	d.side("here", map[int64]int{1: 1, 2: 2, 4: 1, 5: 1}, 5, func(n int64) bool { return n != 5 }, true)
	require.Equal(t, damage{rows: 4, lost: 1, twice: 1, strange: d.strange}, d)
	require.Len(t, d.strange, 3)
}

var marked = regexp.MustCompile(`~(\d+)~`)

func markOf(b []byte) (int64, error) {
	m := marked.FindSubmatch(b)
	if m == nil {
		return 0, fmt.Errorf("no number in %.60q", b)
	}
	return strconv.ParseInt(string(m[1]), 10, 64)
}

// filedLetters reads the letters of all members.
func (w *world) filedLetters(p pipe) (out []int64, err error) {
	dirs, err1 := filepath.Glob(filepath.Join(w.base, "state", "*", p.name))
	replicas, err2 := filepath.Glob(filepath.Join(w.base, "state", "*", p.name+"-[0-9]"))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	for _, dir := range append(dirs, replicas...) {
		seen := map[string]bool{}
		err := leat.ReadDeadLetters(filepath.Join(dir, "dead-letters.jsonl"), func(l leat.DeadLetter) error {
			if seen[l.ID] {
				return fmt.Errorf("rule B3-2: letter %s is twice in %s", l.ID, dir)
			}
			seen[l.ID] = true
			n, err := markOf(l.Raw)
			out = append(out, n)
			return err
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return out, nil
}

// readTopic reads rows as a reader of committed records sees them.
func (w *world) readTopic(name string) (out []fila, err error) {
	err = w.eachRecord(name, func(r *kgo.Record) error {
		row, err := fromJSON(r.Value)
		out = append(out, row)
		return err
	})
	return out, err
}

func (w *world) readLetters(name string) (out []int64, err error) {
	err = w.eachRecord(name, func(r *kgo.Record) error {
		n, err := markOf(r.Value)
		out = append(out, n)
		return err
	})
	return out, err
}

// eachRecord gives the records that readers of committed ones see, or with opts others.
func (w *world) eachRecord(name string, each func(*kgo.Record) error, opts ...kgo.Opt) error {
	topic := w.name + "-" + name
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	var ends kadm.ListedOffsets
	for { // until no transaction is open: one of a killed process may be, up to its timeout
		all, err1 := w.c.adm.ListEndOffsets(ctx, topic)
		stable, err2 := w.c.adm.ListCommittedOffsets(ctx, topic)
		if err := errors.Join(err1, err2, all.Error(), stable.Error()); err != nil && ctx.Err() != nil {
			return err
		}
		open := false
		all.Each(func(o kadm.ListedOffset) {
			s, ok := stable.Lookup(o.Topic, o.Partition)
			open = open || !ok || s.Offset != o.Offset
		})
		if !open && len(all) > 0 {
			ends = all
			break
		}
		if pause(ctx, 200*time.Millisecond); ctx.Err() != nil {
			return fmt.Errorf("topic %s: a transaction stays open", topic)
		}
	}
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(w.c.brokers...), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords()}, opts...)...)
	if err != nil {
		return err
	}
	defer cl.Close()
	left := 0
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left++
		}
	})
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("topic %s can't be read to its end: %w", topic, errors.Join(ctx.Err(), fetches.Err()))
		}
		for it := fetches.RecordIter(); !it.Done(); {
			r := it.Next()
			if !r.Attrs.IsControl() {
				if err := each(r); err != nil {
					return err
				}
			}
			if end, _ := ends.Lookup(topic, r.Partition); r.Offset+1 == end.Offset {
				left--
			}
		}
	}
	return nil
}

// watched is what a pipeline's group is seen to do: how long a partition had no living owner,
// and how long its offset stood still although there were records. Times before a group has begun
// do not count.
type watched struct {
	since [inPartitions]time.Time // without an owner
	begun [inPartitions]bool
	at    [inPartitions]int64
	moved [inPartitions]time.Time
	owing [inPartitions]bool // it was behind when it was last looked at

	ownerless, still time.Duration
}

// watch looks at the groups until ctx ends, each by itself: one whose coordinator is away
// does not hide the others.
func (w *world) watch(ctx context.Context) {
	var all sync.WaitGroup
	for _, p := range w.pipes {
		see := &watched{}
		w.watched[p.name] = see
		all.Go(func() {
			for ctx.Err() == nil {
				w.look(ctx, groupOf(w.name, p), see)
				pause(ctx, 200*time.Millisecond)
			}
		})
	}
	all.Wait()
}

func (w *world) look(ctx context.Context, group string, see *watched) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	living := map[string]bool{}
	for _, m := range w.alive() {
		living[m.name] = true
	}
	if described, err := w.c.adm.DescribeGroups(ctx, group); err == nil && described.Error() == nil {
		see.owners(described[group], living, w.name+"-in")
	}
	ends, err1 := w.c.adm.ListEndOffsets(ctx, w.name+"-in")
	at, err2 := w.c.adm.FetchOffsets(ctx, group)
	if errors.Join(err1, err2, ends.Error(), at.Error()) == nil {
		see.progress(at, ends, w.name+"-in")
	}
}

func (o *watched) owners(group kadm.DescribedGroup, living map[string]bool, topic string) {
	now := time.Now()
	var owned [inPartitions]bool
	for _, m := range group.Members {
		a, ok := m.Assigned.AsConsumer()
		if !ok || !living[m.ClientID] || group.State != "Stable" {
			continue
		}
		for _, t := range a.Topics {
			for _, p := range t.Partitions {
				owned[p] = owned[p] || t.Topic == topic
			}
		}
	}
	for p := range owned {
		switch since := &o.since[p]; {
		case owned[p]:
			o.begun[p] = true
			if !since.IsZero() {
				o.ownerless = max(o.ownerless, now.Sub(*since))
			}
			*since = time.Time{}
		case since.IsZero() && o.begun[p]:
			*since = now
		}
	}
}

func (o *watched) progress(at kadm.OffsetResponses, ends kadm.ListedOffsets, topic string) {
	now := time.Now()
	for p := range o.at {
		end, _ := ends.Lookup(topic, int32(p))
		done, ok := at.Lookup(topic, int32(p))
		if !ok || done.At <= 0 {
			continue
		}
		if o.owing[p] { // that it moved between two looks is not known better
			o.still = max(o.still, now.Sub(o.moved[p]))
		}
		if done.At != o.at[p] || done.At >= end.Offset {
			o.at[p], o.moved[p] = done.At, now
		}
		o.owing[p] = done.At < end.Offset
	}
}

// run is a whole test: faults while the records come, peace, the comparison.
func (w *world) run(table *table, f fault) {
	t := w.t
	t.Helper()
	begun := time.Now()
	for range 3 {
		w.join("")
	}
	ctx, cancel := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	watching, unwatch := context.WithCancel(t.Context())
	var watcher sync.WaitGroup
	watcher.Go(func() { w.watch(watching) })
	busy.Go(func() { f.do(ctx, w) })
	produced := make(chan error, 1)
	pctx, pcancel := context.WithTimeout(t.Context(), w.during+3*time.Minute)
	defer pcancel()
	go func() { produced <- w.produce(pctx) }()
	err := <-produced
	cancel()
	busy.Wait()
	if err != nil {
		w.fail("the records could not be produced: %v", err)
	}
	require.NoError(t, w.c.heal(t.Context()))
	defer unwatch()
	calm := time.Now()
	for len(w.alive()) < 2 {
		w.join("")
	}
	w.settle(90 * time.Second)
	settled := time.Since(calm)
	unwatch()
	watcher.Wait()
	w.drain()
	bad := false
	for _, p := range w.pipes {
		d, see := w.compare(p), w.watched[p.name]
		table.add(f.name, p.name, w.records, w.counts.kills, w.counts.rebalances, w.counts.cuts, d.lost, d.twice,
			see.ownerless.Round(100*time.Millisecond), see.still.Round(100*time.Millisecond), settled.Round(100*time.Millisecond), time.Since(begun).Round(100*time.Millisecond))
		if f.within > 0 && see.ownerless > f.within {
			bad = true
			t.Errorf("%s, %s: a partition had no living owner for %v; the group waits for %v", f.name, p.name, see.ownerless, session)
		}
		if !d.none() {
			bad = true
			w.whoWrote(p)
			t.Errorf("%s, %s: of %d rows %d are lost, %d are there twice: %s", f.name, p.name, d.rows, d.lost, d.twice, strings.Join(d.strange, "; "))
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range slices.Clone(w.trouble) {
		bad = true
		t.Error(s)
	}
	if bad {
		w.keepLogs()
	}
}
