package leat_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// TestProcessModel is TestGroupModel with all that may come together: members that stop, in
// time or not, and others that start; two sinks, which may answer "not yet" and stand at
// different places; a stage whose state is shared; rows at fault. Each good row is in
// each table once, with the state that belongs to it, and each bad one in the letters.
func TestProcessModel(t *testing.T) {
	first, seeds := 0, 25
	if testing.Short() {
		seeds = 6
	}
	if s := os.Getenv("LEAT_SEEDS"); s != "" {
		_, err := fmt.Sscanf(s, "%d-%d", &first, &seeds)
		require.NoError(t, err)
	}
	for seed := first; seed < seeds; seed++ {
		t.Run(strconv.Itoa(seed), func(t *testing.T) {
			bubble(t, func(t *testing.T) { newProcessModel(t, rand.New(rand.NewPCG(uint64(seed), 7))).run() })
		})
	}
}

const modelBad, modelPanic, modelPoison = 97, 1234, 777

// processModel is what the processes share.
type processModel struct {
	t       *testing.T
	rng     *rand.Rand
	rows    int
	group   *memGroup
	state   *memShared // nil: no stage with state
	tables  []*sharedTable
	letters *memLetters
	members []*process
	stopped []*process // and not waited for

	mu    sync.Mutex
	fault string
	began int     // processes
	log   journal // what was asked of tables and the state, for when it fails
}

// process is one member.
type process struct {
	*groupMember
	p    *leat.Pipeline
	stop context.CancelFunc
	done chan error
}

func newProcessModel(t *testing.T, rng *rand.Rand) *processModel {
	m := &processModel{t: t, rng: rng, rows: 2000, letters: &memLetters{}}
	m.group = newGroup(1+rng.IntN(4), m.rows)
	if rng.IntN(3) > 0 {
		m.state = newMemShared()
	}
	for range 1 + rng.IntN(2) {
		m.tables = append(m.tables, &sharedTable{rows: map[int]int{}, positions: map[string]leat.Position{}, epochs: map[string]int{}})
	}
	return m
}

func (m *processModel) wrong(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.log.add("fault: " + fmt.Sprintf(format, args...))
	if m.fault == "" {
		m.fault = fmt.Sprintf(format, args...)
	}
}

// begin starts a process.
func (m *processModel) begin() *process {
	rng := m.rng
	m.began++
	id := m.began
	proc := &process{groupMember: m.group.member(), done: make(chan error, 1)}
	c := config(m.t)
	c.CheckpointEvery = time.Duration(10+rng.IntN(200)) * time.Millisecond
	c.Retry.First = 10 * time.Millisecond
	c.DeadLetters = m.letters
	c.Breaker.Share = -1
	if rng.IntN(4) == 0 {
		c.DrainTimeout = time.Duration(25+rng.IntN(40)) * time.Millisecond
	}
	if rng.IntN(3) == 0 {
		c.BudgetBatches = 1 + rng.IntN(3)
	}
	if m.state != nil {
		c.State = &loggedState{m.state.client(), m, id}
	}
	proc.p = leat.New("group", c)
	slow := rand.New(rand.NewPCG(rng.Uint64(), 3))
	var mu sync.Mutex
	rows := wait(leat.From(proc.p, proc.groupMember), "slow", func(ctx context.Context, in, out *leat.Batch[int]) error {
		mu.Lock()
		d := slow.IntN(3000)
		mu.Unlock()
		if d < 100 { // now and then
			select {
			case <-time.After(time.Duration(d) * time.Millisecond):
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		out.AppendRows(in, 0, in.Len())
		return nil
	})
	if m.state != nil {
		rows = leat.Via(rows, "inOrder", leat.Stage[int, int](&inOrder{m: m, n: map[string]int{}}))
	}
	good := via(rows, "good", rowwise(func(r int) (int, error) {
		if r%1_000_000%modelBad == 5 {
			return 0, errors.New("bad")
		}
		return r, nil
	}))
	for i, table := range m.tables {
		leat.To(good, leat.Sink[int](&moodySink{sharedSink{table: table, rng: rand.New(rand.NewPCG(rng.Uint64(), 2))}, m, id, "table" + strconv.Itoa(i)}))
	}
	ctx, stop := context.WithCancel(m.t.Context())
	proc.stop = stop
	go func() {
		err := proc.p.Run(ctx)
		if ctx.Err() == nil {
			m.wrong("a process has ended by itself: %v", err)
		}
		proc.done <- err
	}()
	return proc
}

func (m *processModel) run() {
	rng, t := m.rng, m.t
	defer func() {
		if t.Failed() && testing.Verbose() {
			t.Log(strings.Join(m.log.all(), "\n"))
		}
	}()
	for range 2 + rng.IntN(2) {
		m.members = append(m.members, m.begin())
	}
	any := func() *process { return m.members[rng.IntN(len(m.members))] }
	for p := range m.group.owner {
		any().give(p)
	}
	ctx := t.Context()
	for move := 0; !m.complete() || move < 15; move++ {
		if m.fault != "" || move > 3000 {
			break
		}
		time.Sleep(time.Duration(rng.IntN(300)) * time.Millisecond)
		p, to := rng.IntN(len(m.group.owner)), any()
		m.group.mu.Lock()
		from := m.group.owner[p]
		m.group.mu.Unlock()
		switch rng.IntN(6) {
		case 0: // the member had been silent for too long
			if from != to.groupMember {
				to.give(p)
				time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
				_ = from.take(ctx, p, true)
			}
		case 1: // little time
			within, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(20))*time.Millisecond)
			_ = from.take(within, p, false)
			cancel()
			to.give(p)
		case 2: // a process stops, and gives its partitions up meanwhile or never
			i := rng.IntN(len(m.members))
			old := m.members[i]
			m.members[i] = m.begin()
			old.stop()
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
			leaves := rng.IntN(2) == 0
			for p, owner := range m.group.owner {
				if owner != old.groupMember {
					continue
				}
				if leaves {
					within, cancel := context.WithTimeout(ctx, time.Duration(rng.IntN(200))*time.Millisecond)
					_ = old.take(within, p, rng.IntN(4) == 0)
					cancel()
				}
				any().give(p)
			}
			if leaves || rng.IntN(2) == 0 {
				m.ended(old)
			} else {
				m.stopped = append(m.stopped, old)
			}
		default:
			within, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := from.take(within, p, false); err == nil {
				m.givenUp(p)
			}
			cancel()
			to.give(p)
		}
	}
	for _, proc := range m.members {
		proc.stop()
	}
	for _, proc := range append(m.stopped, m.members...) {
		m.ended(proc)
	}
	require.Empty(t, m.fault)
	require.True(t, m.complete(), "it stands still")
	for i, table := range m.tables {
		for p := range m.group.owner {
			for r := range m.rows {
				want := 1
				if m.isBad(r) {
					want = 0
				}
				require.Equal(t, want, table.rows[p*1_000_000+r], "table %d, partition %d, row %d", i, p, r)
			}
		}
	}
	bad := map[string]bool{}
	for _, l := range m.letters.all() {
		bad[l.Partition+"/"+strconv.FormatInt(l.Offset, 10)] = true
	}
	for p := range m.group.owner {
		for r := range m.rows {
			require.Equal(t, m.isBad(r), bad[fmt.Sprintf("group/%d/%d", p, r)], "letter of partition %d, row %d", p, r)
		}
	}
}

// ended waits for a process that was stopped.
func (m *processModel) ended(proc *process) {
	if err := <-proc.done; err != nil {
		return // what was on its way is in its counts
	}
	for _, n := range proc.p.Stats().Nodes {
		if n.In+n.Added != n.Out+n.Rejected+n.Filtered {
			m.wrong("rule A8: the rows of %s do not balance: %+v", n.Name, n)
		}
	}
}

// givenUp checks that the group knows of nothing that a sink has not got (rule A3).
func (m *processModel) givenUp(p int) {
	m.group.mu.Lock()
	at := m.group.kept[p]
	m.group.mu.Unlock()
	for i, table := range m.tables {
		table.mu.Lock()
		if have := table.positions["group/"+strconv.Itoa(p)]; have.Next < at.Next {
			m.wrong("rule A3: partition %d was given up at %d, and table %d is at %d", p, at.Next, i, have.Next)
		}
		table.mu.Unlock()
	}
}

func (m *processModel) isBad(r int) bool {
	return r%modelBad == 5 || m.state != nil && (r == modelPanic || r == modelPoison)
}

func (m *processModel) complete() bool {
	for _, table := range m.tables {
		table.mu.Lock()
		for p := range m.group.owner {
			if table.positions["group/"+strconv.Itoa(p)].Next < int64(m.rows) {
				table.mu.Unlock()
				return false
			}
		}
		table.mu.Unlock()
	}
	return true
}

// inOrder knows which row is due.
type inOrder struct {
	m  *processModel
	mu sync.Mutex
	n  map[string]int
}

func (s *inOrder) Process(_ context.Context, in *leat.Batch[int], out *leat.Batch[int]) error {
	for i, r := range in.Rows() {
		row := r % 1_000_000
		switch row {
		case modelPanic:
			panic("at this row")
		case modelPoison:
			return errors.New("this row")
		}
		want := row
		if row > modelPanic {
			want--
		}
		if row > modelPoison {
			want--
		}
		s.mu.Lock()
		if n := s.n[in.Partition()]; n != want {
			s.m.wrong("rule G12: row %d of %s meets the state of row %d", row, in.Partition(), n)
		}
		s.n[in.Partition()]++
		s.mu.Unlock()
		out.Append(r, i)
	}
	return nil
}

func (s *inOrder) Restore(partition string, saved [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.n, partition)
	for _, b := range saved {
		var n int
		if err := json.Unmarshal(b, &n); err != nil {
			return err
		}
		s.n[partition] = n
	}
	return nil
}

func (s *inOrder) Snapshot(partition string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return json.Marshal(s.n[partition])
}

func (s *inOrder) Delta(partition string) ([]byte, error) { return s.Snapshot(partition) }

// moodySink is a sharedSink that may answer "not yet".
type moodySink struct {
	sharedSink
	m    *processModel
	id   int
	name string
}

func (s *moodySink) Name() string { return s.name }
func (s *moodySink) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	at, err := s.sharedSink.Restore(ctx, partitions)
	for _, p := range partitions {
		s.m.logged(s.id, "%s: takes %s at %d", s.name, p, at[p].Next)
	}
	return at, err
}

func (s *moodySink) Commit(ctx context.Context, cp leat.Checkpoint) (bool, error) {
	if !cp.Force && s.rng.IntN(2) == 0 {
		return false, nil
	}
	done, err := s.sharedSink.Commit(ctx, cp)
	for p, to := range cp.Positions {
		s.m.logged(s.id, "%s: commits %s at %d: %v", s.name, p, to.Next, err)
	}
	return done, err
}

// loggedState is a memClient that says what it was asked.
type loggedState struct {
	*memClient
	m  *processModel
	id int
}

func (s *loggedState) Take(ctx context.Context, partitions []string) (map[string]leat.StateHeld, error) {
	held, err := s.memClient.Take(ctx, partitions)
	for _, p := range partitions {
		s.m.logged(s.id, "state: takes %s at %d: %v", p, held[p].Position.Next, err)
	}
	return held, err
}

func (s *loggedState) Commit(ctx context.Context, c leat.StateCommit) error {
	err := s.memClient.Commit(ctx, c)
	for p, change := range c.Partitions {
		s.m.logged(s.id, "state: commits %s at %d %v: %v", p, change.Position.Next, change.Note, err)
	}
	return err
}

func (m *processModel) logged(id int, format string, args ...any) {
	m.log.add(fmt.Sprintf("%s process %d, ", time.Now().Format("04:05.000"), id) + fmt.Sprintf(format, args...))
}
