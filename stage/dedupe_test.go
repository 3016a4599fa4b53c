package stage_test

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/testhook"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

// event is a row with a key, and a time in seconds since noon.
type event struct {
	Key string
	At  float64
}

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const noTime = -1e6

func eventTime(e *event) time.Time {
	if e.At == noTime {
		return time.Time{}
	}
	return noon.Add(time.Duration(e.At * float64(time.Second)))
}

func eventKey(e *event) string {
	if strings.HasPrefix(e.Key, "panic") {
		panic("no key")
	}
	return e.Key
}

func forEver() *stage.Dedupe[event, string] { return &stage.Dedupe[event, string]{Key: eventKey} }

// tenSeconds remembers for 10 s, with rows up to 2 s late.
func tenSeconds() *stage.Dedupe[event, string] {
	return &stage.Dedupe[event, string]{Key: eventKey, Time: eventTime, TTL: 10 * time.Second, OutOfOrderness: 2 * time.Second}
}

func TestDedupe(t *testing.T) {
	t.Parallel()
	passLate := func() *stage.Dedupe[event, string] { d := tenSeconds(); d.PassLate = true; return d }
	for name, c := range map[string]struct {
		stage   func() *stage.Dedupe[event, string]
		rows    []event
		passed  []int
		rejects []string
	}{
		"rule C2: the first wins": {forEver, []event{{"a", 1}, {"b", 0}, {"a", 9}, {"a", 1}, {"b", 0}, {"", 0}, {"c", 0}, {"", 0}}, []int{0, 1, 5, 6}, nil},
		"a panic is one bad row":  {forEver, []event{{"a", 0}, {"panic", 0}, {"a", 0}, {"panic", 0}}, []int{0}, []string{"1 Transform/-/panic", "3 Transform/-/panic"}},

		// W = newest - 2 s - 1 µs; a is forgotten when 0 + 10 s <= W, so by a row later than 12 s.
		"remembered up to the TTL": {tenSeconds, []event{{"a", 0}, {"x", 12}, {"a", 0}}, []int{0, 1}, nil},
		"a row of its own time is judged before it moves the watermark (G2-1)": {tenSeconds, []event{{"a", 0}, {"a", 12.1}, {"a", 12.1}}, []int{0, 2}, nil},
		"forgotten at the TTL":            {tenSeconds, []event{{"a", 0}, {"x", 12.000001}, {"a", 5}, {"a", 5}}, []int{0, 1, 2}, nil},
		"the winner's time counts":        {tenSeconds, []event{{"a", 0}, {"a", 11}, {"x", 12.000001}, {"a", 11}}, []int{0, 2, 3}, nil},
		"duplicates move the watermark":   {tenSeconds, []event{{"a", 0}, {"b", 0}, {"b", 13}, {"a", 13}, {"a", 13}}, []int{0, 1, 3}, nil},
		"too old to be judged":            {tenSeconds, []event{{"x", 100}, {"a", 88.000001}, {"a", 88}, {"a", 87.999999}, {"x", 80}}, []int{0, 1}, []string{"3 Late/-/late", "4 Late/-/late"}},
		"too old, and passing":            {passLate, []event{{"x", 100}, {"a", 80}, {"a", 80}, {"a", 100}, {"a", 100}}, []int{0, 1, 2, 3}, nil},
		"no time":                         {tenSeconds, []event{{"a", noTime}, {"a", 1}, {"b", noTime}}, []int{1}, []string{"0 Contract/-/time", "2 Contract/-/time"}},
		"late rows do not move anything":  {tenSeconds, []event{{"x", 100}, {"a", -1000}, {"b", 100}, {"b", 100}}, []int{0, 2}, []string{"1 Late/-/late"}},
		"a source without arrivals (G10)": {tenSeconds, []event{{"a", 0}, {"x", 1e9}, {"a", 1e9}}, []int{0, 1, 2}, nil},
		"before 1970 and far in the past": {tenSeconds, []event{{"a", -3e9}, {"a", -3e9 + 5}, {"x", -3e9 + 12.1}, {"a", -3e9 + 12.1}}, []int{0, 2, 3}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := leattest.Stage(t, c.stage(), c.rows...)
			require.Equal(t, c.passed, got.From)
			require.Equal(t, fmt.Sprint(c.rejects), fmt.Sprint(got.Rejected()))
			require.Equal(t, len(c.rows)-len(c.passed)-len(c.rejects), got.Filtered, "duplicates count as filtered (rule A8)")
		})
	}
}

func TestDedupeIsAStage(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var rows []event
	for i := range 120 {
		e := event{fmt.Sprint(r.IntN(9)), float64(i)/4 + r.Float64()*16}
		switch i % 20 {
		case 7:
			e.Key = "panic"
		case 11:
			e.At = noTime
		}
		rows = append(rows, e)
	}
	for name, make := range map[string]func() *stage.Dedupe[event, string]{"for ever": forEver, "with a TTL": tenSeconds} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			leattest.TestStage(t, make, rows...)
		})
	}
}

// model is Dedupe as one would write it without thinking of memory.
type model struct {
	ttl, bound, newest float64
	first              map[string]float64
}

func (m *model) judge(e event) string {
	w := m.newest - m.bound
	switch at, found := m.first[e.Key]; {
	case e.At+m.ttl < w:
		return "late"
	case found && at+m.ttl >= w: // the watermark is 1 µs before w
		m.newest = max(m.newest, e.At)
		return "dropped"
	}
	m.first[e.Key] = e.At
	m.newest = max(m.newest, e.At)
	return "passed"
}

// Whatever the batches, and however often the state is saved and restored between them.
func TestDedupeIsItsModel(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 7))
		make := tenSeconds
		m := model{10, 2, math.Inf(-1), map[string]float64{}}
		if seed%3 == 0 {
			make, m.ttl = forEver, math.Inf(1)
		}
		st := make()
		var saved [][]byte
		now, offset := 0.0, 0
		keys := 5 + r.IntN(3000)
		for offset < 6000 {
			in, out := new(leat.Batch[event]), new(leat.Batch[event])
			var want []string
			for range r.IntN(200) {
				now += r.ExpFloat64() * 10 / float64(keys)
				if r.IntN(2000) == 0 {
					now += 30
				}
				e := event{fmt.Sprint(r.IntN(keys)), math.Round((now-r.ExpFloat64()*3)*4) / 4}
				want = append(want, m.judge(e))
				in.Append(e, offset)
				offset += 1 + r.IntN(3)
			}
			require.NoError(t, st.Process(t.Context(), in, out))
			got := fates(in, out)
			require.Equal(t, want, got, "seed %d, before offset %d", seed, offset)

			if r.IntN(3) > 0 {
				continue
			}
			if r.IntN(10) == 0 {
				b, err := st.Snapshot("")
				require.NoError(t, err)
				saved = [][]byte{b}
			} else if b, err := st.Delta(""); b != nil {
				require.NoError(t, err)
				saved = append(saved, b)
			}
			if r.IntN(2) == 0 {
				if r.IntN(2) == 0 {
					st = make()
				}
				require.NoError(t, st.Restore("", saved))
			}
		}
	}
}

// fates tells what became of each row.
func fates(in, out *leat.Batch[event]) []string {
	var got []string
	made := testhook.Batch(out)
	fate := map[int]string{}
	for i := range out.Len() {
		fate[made.Trace().Record(i)] = "passed" // outside a pipeline rows are named by their numbers
	}
	for _, r := range made.Rejects() {
		fate[r.Record] = "late"
	}
	for i := range in.Len() {
		got = append(got, cmp.Or(fate[i], "dropped"))
	}
	return got
}

func TestDedupeRecovers(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	var rows []event
	m := model{10, 2, math.Inf(-1), map[string]float64{}}
	var want []event
	for i := range 60 {
		rows = append(rows, event{fmt.Sprint(r.IntN(12)), float64(i) + float64(r.IntN(15))})
		if m.judge(rows[i]) == "passed" {
			want = append(want, rows[i])
		}
	}
	leattest.TestRecovery(t, leattest.RecoveryHarness[event]{
		Build: func(_ *testing.T, dir string) *leat.Pipeline {
			p := leat.New("dedupe", leat.Config{Breaker: leat.Breaker{Share: -1}})
			leat.To(leat.Via(leat.From(p, leattest.Rows(rows...).Batches(7)), "once", tenSeconds()), leattest.Collect[event]().In(dir))
			return p
		},
		ReadBack: func(_ *testing.T, dir string) []event { return leattest.Collect[event]().In(dir).Committed() },
		Want:     want,
		Trials:   60,
	})
}

func TestDedupeValidate(t *testing.T) {
	t.Parallel()
	key := func(*event) string { return "" }
	at := func(*event) time.Time { return noon }
	for want, d := range map[string]interface{ Validate() error }{
		"the function is nil":       &stage.Dedupe[event, string]{},
		"TTL can't be negative":     &stage.Dedupe[event, string]{Key: key, TTL: -1},
		"whole microseconds":        &stage.Dedupe[event, string]{Key: key, Time: at, TTL: 999},
		"a TTL needs Time":          &stage.Dedupe[event, string]{Key: key, TTL: time.Hour},
		"but TTL is not":            &stage.Dedupe[event, string]{Key: key, Time: at},
		"OutOfOrderness can't":      &stage.Dedupe[event, string]{Key: key, OutOfOrderness: -1},
		"MaxFutureSkew can't":       &stage.Dedupe[event, string]{Key: key, MaxFutureSkew: -2},
		"field At: time.Time can't": &stage.Dedupe[event, struct{ At time.Time }]{Key: func(*event) struct{ At time.Time } { return struct{ At time.Time }{} }},
		"float64 can't":             &stage.Dedupe[event, float64]{Key: func(*event) float64 { return 0 }},
		"says nothing":              &stage.Dedupe[event, struct{}]{Key: func(*event) struct{} { return struct{}{} }},
		"would be equal":            &stage.Dedupe[event, [0]byte]{Key: func(*event) (k [0]byte) { return k }},
		"field At: *int can't":      &stage.Dedupe[event, struct{ At *int }]{Key: func(*event) struct{ At *int } { return struct{ At *int }{} }},
		"too many elements":         &stage.Dedupe[event, [65]int]{Key: func(*event) [65]int { return [65]int{} }},
	} {
		require.ErrorContains(t, d.Validate(), want)
	}
	require.NoError(t, forEver().Validate())
	require.NoError(t, tenSeconds().Validate())
	require.NotEqual(t, forEver().Fingerprint(), tenSeconds().Fingerprint())
	require.Equal(t, "dedupe key=string ttl=10s outoforderness=2s maxfutureskew=1h0m0s", tenSeconds().Fingerprint(), "rule E7-4: it must not change with versions of leat")
}

type order struct {
	Account string
	Number  int32
	_       float64
	Lines   [2]struct{ A, B string }
	Open    bool
	ID      [3]byte
}

// Different keys of a type give different bytes.
func TestDedupeKeys(t *testing.T) {
	t.Parallel()
	keys := []order{
		{}, {Account: "a"}, {Account: "\x00"}, {Number: 1}, {Number: -1}, {Number: 256}, {Open: true}, {ID: [3]byte{1}}, {ID: [3]byte{0, 1}},
		{Lines: [2]struct{ A, B string }{{"ab", "c"}}}, {Lines: [2]struct{ A, B string }{{"a", "bc"}}}, {Lines: [2]struct{ A, B string }{{"a", "b"}, {"c", ""}}},
		{Account: strings.Repeat("x", 200)}, {Account: strings.Repeat("x", 201)},
	}
	rows := append(slices.Clone(keys), keys...)
	got := leattest.Stage(t, &stage.Dedupe[order, order]{Key: func(o *order) order { return *o }}, rows...)
	require.Equal(t, keys, got.Rows)

	for _, n := range []int64{math.MinInt64, -1, 0, 1, 255, 1 << 40} {
		d := &stage.Dedupe[int64, int64]{Key: func(n *int64) int64 { return *n }}
		require.Equal(t, []int64{n, n + 1}, leattest.Stage(t, d, n, n+1, n, n+1, n).Rows)
	}
	d := &stage.Dedupe[int, int8]{Key: func(n *int) int8 { return int8(*n) }}
	require.Equal(t, []int{1, 2, -1}, leattest.Stage(t, d, 1, 2, -1, 257, 255).Rows)
	u := &stage.Dedupe[int, [2]byte]{Key: func(n *int) [2]byte { return [2]byte{byte(*n >> 8), byte(*n)} }}
	require.Equal(t, []int{1, 2, 257}, leattest.Stage(t, u, 1, 2, 257, 1, 1<<16+2).Rows)
	b := &stage.Dedupe[int, bool]{Key: func(n *int) bool { return *n > 0 }}
	require.Equal(t, []int{1, 0}, leattest.Stage(t, b, 1, 2, 0, -1).Rows)
}

// Rule G10: a row too far ahead of its arrival does not make Dedupe forget.
func TestDedupeFutureTimesG10(t *testing.T) {
	t.Parallel()
	d := tenSeconds()
	d.MaxFutureSkew = time.Minute
	process := func(arrived []float64, rows ...event) (passed []int, rejected string) {
		in, out := new(leat.Batch[event]), new(leat.Batch[event])
		for i, r := range rows {
			in.Append(r, i)
		}
		testhook.Batch(in).Trace().Chunk = &engine.Chunk{Partition: "p", Locate: func(records []int) []engine.Origin {
			found := make([]engine.Origin, len(records))
			for k, i := range records {
				found[k] = engine.Origin{Offset: int64(1000 - len(rows) + i), Time: noon.Add(time.Duration(arrived[i] * float64(time.Second)))}
			}
			return found
		}}
		testhook.Batch(out).Trace().Chunk = testhook.Batch(in).Trace().Chunk
		require.NoError(t, d.Process(t.Context(), in, out))
		for i := range out.Len() {
			passed = append(passed, testhook.Batch(out).Trace().Record(i))
		}
		for _, r := range testhook.Batch(out).Rejects() {
			rejected += fmt.Sprint(r.Record, r.Class, " ")
		}
		return passed, rejected
	}
	passed, rejected := process([]float64{0, 0, 0, 0, 0, 5, 5, 6},
		event{"a", 0}, event{"b", 60}, event{"c", 61}, event{"d", 1e9}, event{"b", 60}, event{"e", 65}, event{"f", 66}, event{"g", 66})
	require.Equal(t, []int{0, 1, 5, 7}, passed)
	require.Equal(t, "2FutureTime 3FutureTime 6FutureTime ", rejected)
}

func TestDedupeOnDuplicate(t *testing.T) {
	t.Parallel()
	var told []string
	d := forEver()
	d.OnDuplicate = func(e *event) {
		told = append(told, e.Key)
		if e.Key == "bad" {
			panic("no")
		}
	}
	got := leattest.Stage(t, d, event{"a", 0}, event{"bad", 0}, event{"a", 1}, event{"bad", 2}, event{"b", 3}, event{"a", 4})
	require.Equal(t, []string{"a", "bad", "a"}, told)
	require.Equal(t, []int{0, 1, 4}, got.From)
	require.Equal(t, []string{"3 Transform/-/panic"}, got.Rejected(), "rule A9")
	require.Equal(t, 2, got.Filtered)
}

// Rule C6.
func TestDedupeBehindSeveralSourcesIsRefused(t *testing.T) {
	t.Parallel()
	p := leat.New("p", leat.Config{StateDir: t.TempDir()})
	a, b := leat.From(p, leattest.Rows(event{}).Named("a")), leat.From(p, leattest.Rows(event{}).Named("b"))
	leat.To(leat.Via(leat.Merge(a, b), "once", forEver()), leattest.Collect[event]())
	require.ErrorContains(t, p.Check(), "rule C6: stage once sees the rows of each partition apart, and rows of sources a and b that belong together are in several")

	p = leat.New("p", leat.Config{StateDir: t.TempDir()})
	a = leat.From(p, leattest.Rows(event{}).Named("a"))
	leat.To(leat.Via(leat.Merge(leat.Via(a, "x", stage.Filter(func(event) bool { return true })), a), "once", forEver()), leattest.Collect[event]())
	require.NoError(t, p.Check(), "branches of one source are of its partitions")
}

func TestDedupeStateSize(t *testing.T) {
	t.Parallel()
	d := tenSeconds()
	leattest.Stage(t, d, event{"a", 0}, event{"b", 0}, event{"a", 0})
	keys, bytes := d.StateSize()
	require.EqualValues(t, 2, keys)
	require.Greater(t, bytes, int64(1000))

	// Of all partitions, however they come and go.
	saved, err := d.Snapshot("rows")
	require.NoError(t, err)
	keys, bytes = d.StateSize()
	for _, partition := range []string{"other", "other", "third"} {
		require.NoError(t, d.Restore(partition, [][]byte{saved}))
	}
	k, b := d.StateSize()
	require.Equal(t, 3*keys, k)
	require.Equal(t, 3*bytes, b)
	require.Error(t, d.Restore("third", [][]byte{{}}))
	for _, partition := range []string{"rows", "other", "none"} {
		require.NoError(t, d.Restore(partition, nil))
	}
	keys, bytes = d.StateSize()
	require.Zero(t, keys+bytes, "what is not needed is given back")
}

// Everything is forgotten in the course of a few batches, without a new key in each shard.
func TestDedupeGivesMemoryBack(t *testing.T) {
	t.Parallel()
	d := tenSeconds()
	process := func(from, to int, at float64) {
		in := new(leat.Batch[event])
		for i := from; i < to; i++ {
			in.Append(event{fmt.Sprint(i), at}, i)
		}
		require.NoError(t, d.Process(t.Context(), in, new(leat.Batch[event])))
	}
	process(0, 100_000, 0)
	_, err := d.Delta("")
	require.NoError(t, err)
	_, full := d.StateSize()
	for i := range 300 {
		process(100_000+i, 100_001+i, 100+float64(i))
	}
	_, err = d.Delta("")
	require.NoError(t, err)
	keys, bytes := d.StateSize()
	require.Less(t, keys, int64(300+1024), "entries go in blocks of 1024")
	require.Less(t, bytes, full/20)
	b, err := d.Snapshot("")
	require.NoError(t, err)
	require.Less(t, len(b), 1000, "what has expired is not saved")
}

// Rule E9: a cut is made when the state has grown, so what waits for the next one must count as growth, also when
// as much was forgotten meanwhile.
func TestDedupeGrowsByWhatIsNotSaved(t *testing.T) {
	t.Parallel()
	d, n := tenSeconds(), 0
	tenSecondsOfKeys := func() {
		for range 100 {
			in := new(leat.Batch[event])
			for range 1000 {
				in.Append(event{fmt.Sprint(n), float64(n) / 10_000}, n)
				n++
			}
			require.NoError(t, d.Process(t.Context(), in, new(leat.Batch[event])))
		}
	}
	grown := func() int {
		_, before := d.StateSize()
		tenSecondsOfKeys()
		_, after := d.StateSize()
		return int(after - before)
	}
	for range 2 {
		tenSecondsOfKeys()
	}
	_, err := d.Delta("")
	require.NoError(t, err)
	_, before := d.StateSize()
	more := grown()
	delta, err := d.Delta("")
	require.NoError(t, err)
	require.Greater(t, len(delta), 90_000*32)
	require.GreaterOrEqual(t, more, len(delta)-100, "but for its header")
	_, after := d.StateSize()
	require.InEpsilon(t, before, after, 0.1, "what is saved counts no more")

	require.GreaterOrEqual(t, grown(), 100_000*32)
	_, err = d.Snapshot("")
	require.NoError(t, err)
	_, after = d.StateSize()
	require.InEpsilon(t, before, after, 0.1)
}

func TestDedupeRestoreRefuses(t *testing.T) {
	t.Parallel()
	process := func(d *stage.Dedupe[event, string], e event) {
		in := new(leat.Batch[event])
		in.Append(e, 0)
		require.NoError(t, d.Process(t.Context(), in, new(leat.Batch[event])))
	}
	pieces := func(d *stage.Dedupe[event, string]) (delta, snapshot []byte) {
		process(d, event{"a", 1})
		delta, err := d.Delta("")
		require.NoError(t, err)
		snapshot, err = d.Snapshot("")
		require.NoError(t, err)
		return delta, snapshot
	}
	delta, snapshot := pieces(tenSeconds())
	untimed, _ := pieces(forEver())
	other, _ := pieces(tenSeconds())
	change := func(b []byte, at int, to byte) []byte { b = slices.Clone(b); b[at] = to; return b }
	for name, c := range map[string]struct {
		saved [][]byte
		want  string
	}{
		"nothing":        {[][]byte{{}}, "piece 1 of 1 of the state of partition \"p\": it is cut short"},
		"no header":      {[][]byte{delta[:17]}, "cut short"},
		"half an entry":  {[][]byte{delta[:len(delta)-1]}, "cut short"},
		"another format": {[][]byte{change(delta, 0, 3)}, "it has format 3, and this version of leat reads formats up to 2"},
		"no format":      {[][]byte{change(delta, 0, 0)}, "it has format 0"},
		"flags":          {[][]byte{change(delta, 1, 130)}, "damaged"},
		"order":          {[][]byte{delta, snapshot}, "piece 2 of 2 of the state of partition \"p\": a snapshot is not the first"},
		"TTL was set":    {[][]byte{untimed}, "the TTL was set or taken away"},
		"another seed":   {[][]byte{delta, other}, "another state"},
		"time":           {[][]byte{change(delta, 25, 0x7f)}, "impossible time"},
		"limit":          {[][]byte{change(delta, 41, 0x7f)}, "impossible time"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, tenSeconds().Restore("p", c.saved), c.want)
		})
	}
	require.NoError(t, tenSeconds().Restore("p", [][]byte{snapshot, delta, delta}))
	b, err := tenSeconds().Delta("never seen")
	require.NoError(t, err)
	require.Nil(t, b)
}

// Rule C2: with a greater TTL than before (rule E7-4) nothing passes for the first of its key that can't be
// told from one that repeats what was forgotten by the old TTL.
func TestDedupeGreaterTTL(t *testing.T) {
	t.Parallel()
	process := func(d *stage.Dedupe[event, string], first int, events ...event) (passed []event, rejects []engine.Reject) {
		in, out := new(leat.Batch[event]), new(leat.Batch[event])
		for i, e := range events {
			in.Append(e, first+i)
		}
		require.NoError(t, d.Process(t.Context(), in, out))
		return out.Rows(), testhook.Batch(out).Rejects()
	}
	old := tenSeconds()
	passed, _ := process(old, 0, event{"a", 1}, event{"b", 100})
	require.Len(t, passed, 2)
	delta, err := old.Delta("")
	require.NoError(t, err)
	saved := [][]byte{delta}
	for life := range 3 { // what is saved of a life says it too
		d := tenSeconds()
		d.TTL = 1000 * time.Second
		require.NoError(t, d.Restore("", saved))
		passed, rejects := process(d, 10*(life+1), event{"a", 50}, event{"c", 87}, event{"b", 89}, event{fmt.Sprint("d", life), 89})
		require.Equal(t, []event{{fmt.Sprint("d", life), 89}}, passed)
		require.Len(t, rejects, 2)
		require.EqualValues(t, leat.Late, rejects[0].Class)
		require.ErrorContains(t, rejects[0].Err, "here keys from before 2026-03-01T12:01:28Z are forgotten")
		if life == 1 {
			delta, err = d.Snapshot("")
			saved = nil
		} else {
			delta, err = d.Delta("")
		}
		require.NoError(t, err)
		saved = append(saved, delta)
	}
	d := tenSeconds()
	d.TTL = time.Second // and a smaller one forgets at once
	require.NoError(t, d.Restore("", saved))
	passed, rejects := process(d, 90, event{"b", 96}, event{"d0", 98})
	require.Equal(t, []event{{"d0", 98}}, passed)
	require.Len(t, rejects, 1)
}

func FuzzDedupeRestore(f *testing.F) {
	d := tenSeconds()
	in := new(leat.Batch[event])
	in.Append(event{"a", 1}, 5)
	in.Append(event{"b", 2}, 6)
	if err := d.Process(f.Context(), in, new(leat.Batch[event])); err != nil {
		f.Fatal(err)
	}
	delta, _ := d.Delta("")
	snapshot, _ := d.Snapshot("")
	f.Add(snapshot, delta)
	f.Add(delta, []byte{})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		for _, d := range []*stage.Dedupe[event, string]{tenSeconds(), forEver()} {
			if d.Restore("", [][]byte{a, b}) != nil {
				continue
			}
			require.NoError(t, d.Process(t.Context(), in, new(leat.Batch[event])))
			s, err := d.Snapshot("")
			require.NoError(t, err)
			require.NoError(t, d.Restore("", [][]byte{s}))
		}
	})
}

// Rule H6: what formats before have written is read. Another format needs its own files here, and
// these stay.
func TestDedupeReadsItsFormatsH6(t *testing.T) {
	t.Parallel()
	const current = "2"
	for name, make := range map[string]func() *stage.Dedupe[event, string]{"1-forever": forEver, "1-ttl": tenSeconds, "2-forever": forEver, "2-ttl": tenSeconds} {
		file := filepath.Join("testdata", "dedupe-"+name+".hex")
		batch := func(keys ...string) *leat.Batch[event] {
			in := new(leat.Batch[event])
			for i, k := range keys {
				in.Append(event{k, 1}, 100+i)
			}
			return in
		}
		if os.Getenv("LEAT_WRITE_STATE") != "" && strings.HasPrefix(name, current) {
			d, text := make(), ""
			for i, keys := range [][]string{{"a", "b"}, {"x", "y", "c"}} {
				require.NoError(t, d.Process(t.Context(), batch(keys...), new(leat.Batch[event])))
				save := d.Delta
				if i == 0 {
					save = d.Snapshot
				}
				b, err := save("")
				require.NoError(t, err)
				text += hex.EncodeToString(b) + "\n"
			}
			require.NoError(t, os.WriteFile(file, []byte(text), 0o644))
		}
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		var saved [][]byte
		for line := range strings.Lines(string(text)) {
			b, err := hex.DecodeString(strings.TrimSpace(line))
			require.NoError(t, err)
			saved = append(saved, b)
		}
		d := make()
		require.NoError(t, d.Restore("", saved))
		out := new(leat.Batch[event])
		require.NoError(t, d.Process(t.Context(), batch("q", "a", "b", "c", "d"), out))
		require.Equal(t, []event{{"q", 1}, {"d", 1}}, out.Rows())
		out = new(leat.Batch[event])
		require.NoError(t, d.Process(t.Context(), batch("a", "b", "c"), out))
		require.Equal(t, []event{{"a", 1}, {"b", 1}, {"c", 1}}, out.Rows(), "rule C5: the winners' offsets were saved")
	}
}

// replayEvents runs a pipeline whose sink refuses some rows, and then replays its letters.
func replayEvents(t *testing.T, make func() *stage.Dedupe[string, string], split bool, refuse func(string) bool, mend func(string) string, rows ...string) (before, after []string, letters []leat.DeadLetter) {
	dir := t.TempDir()
	sink := leattest.Collect[string]()
	config := leat.Config{StateDir: dir, Logger: slog.New(slog.DiscardHandler), Breaker: leat.Breaker{Share: -1}}
	build := func(refuse func(string) bool) *leat.Pipeline {
		p := leat.New("p", config)
		src := leattest.Rows(rows...).Parse(func(raw []byte) (string, error) { return string(raw), nil })
		flow := leat.Via(leat.From(p, src), "good", stage.Check(func(s string) error {
			if strings.Contains(s, "bad") {
				return errors.New("bad")
			}
			return nil
		}))
		if split {
			flow = leat.Via(flow, "split", stage.FlatMap(func(s string) ([]string, error) { return strings.Fields(s), nil }))
		}
		leat.To(leat.Via(flow, "once", make()), sink.RejectIf(func(s string) error {
			if refuse(s) {
				return errors.New("refused")
			}
			return nil
		}))
		return p
	}
	require.NoError(t, build(refuse).Run(t.Context()))
	before = sink.Committed()
	file := filepath.Join(dir, "dead-letters.jsonl")
	_, err := leat.Replay(t.Context(), build(func(string) bool { return false }), func(yield func(leat.DeadLetter, error) bool) {
		for l, err := range leat.DeadLetters(file) {
			l.Raw = []byte(mend(string(l.Raw)))
			if !yield(l, err) {
				return
			}
		}
	})
	require.NoError(t, err)
	for l, err := range leat.DeadLetters(file) {
		require.NoError(t, err)
		letters = append(letters, l)
	}
	return before, sink.Committed()[len(before):], letters
}

// Rows are "key@seconds".
func textTTL() *stage.Dedupe[string, string] {
	return &stage.Dedupe[string, string]{
		Key: func(s *string) string { key, _, _ := strings.Cut(*s, "@"); return key },
		Time: func(s *string) time.Time {
			_, at, _ := strings.Cut(*s, "@")
			sec, _ := strconv.Atoi(at)
			return noon.Add(time.Duration(sec) * time.Second)
		},
		TTL: 10 * time.Second,
	}
}

func textForEver() *stage.Dedupe[string, string] {
	d := textTTL()
	d.TTL, d.Time = 0, nil
	return d
}

// Rule C5: a row is never a duplicate of itself, also when its letter is replayed.
func TestDedupeReplaysC5(t *testing.T) {
	t.Parallel()
	same := func(s string) string { return s }
	none := func(string) bool { return false }
	is := func(row string) func(string) bool { return func(s string) bool { return s == row } }
	for name, c := range map[string]struct {
		make          func() *stage.Dedupe[string, string]
		split         bool
		refuse        func(string) bool
		mend          func(string) string
		rows          []string
		before, after []string
		letters       []string // new ones
	}{
		"the winner comes back": {textForEver, false, is("b@1"), same, []string{"a@0", "b@1", "b@2", "a@3"}, []string{"a@0"}, []string{"b@1"}, nil},
		"a mended row is new": {textForEver, false, none, func(string) string { return "c@1" }, []string{"a@0", "bad@1", "b@2"},
			[]string{"a@0", "b@2"}, []string{"c@1"}, nil},
		"a mended row is a duplicate": {textForEver, false, none, func(string) string { return "b@1" }, []string{"a@0", "bad@1", "b@2"},
			[]string{"a@0", "b@2"}, []string{}, nil},
		"the winner comes back when it is forgotten":         {textTTL, false, is("b@1"), same, []string{"b@1", "x@100"}, []string{"x@100"}, []string{"b@1"}, nil},
		"the winner comes back when there is another by now": {textTTL, false, is("b@1"), same, []string{"b@1", "x@100", "b@101"}, []string{"x@100", "b@101"}, []string{"b@1"}, nil},
		"a mended row that is too old": {textTTL, false, none, func(string) string { return "c@1" }, []string{"bad@1", "x@100"},
			[]string{"x@100"}, []string{}, []string{"Late once"}},
		"one of several rows of a record": {textForEver, true, is("c@1"), same, []string{"a@0", "b@1 b@1 a@1 c@1 d@1 c@2"},
			[]string{"a@0", "b@1", "d@1"}, []string{"c@1"}, nil},
		"one of several, mended upstream": {textTTL, true, none, func(string) string { return "c@1 a@1 c@2 d@1" }, []string{"a@0", "bad b@1", "b@2"},
			[]string{"a@0", "b@2"}, []string{"c@1", "d@1"}, nil},
		"one of several, remembered for some time": {textTTL, true, is("c@1"), same, []string{"a@0 z@0", "b@1 b@1 z@1 a@1 c@1 d@1 c@2"},
			[]string{"a@0", "z@0", "b@1", "d@1"}, []string{"c@1"}, nil},
		"one of several, forgotten": {textTTL, true, is("c@1"), same, []string{"a@0", "a@1 c@1", "x@100"},
			[]string{"a@0", "x@100"}, []string{}, []string{"Transform once"}},
		"one of several, forgotten and come again": {textTTL, true, is("c@1"), same, []string{"a@1 c@1", "x@100", "a@101", "c@101"},
			[]string{"a@1", "x@100", "a@101", "c@101"}, []string{}, []string{"Transform once"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after, letters := replayEvents(t, c.make, c.split, c.refuse, c.mend, c.rows...)
			require.Equal(t, c.before, before)
			require.Equal(t, c.after, after)
			var again []string
			for _, l := range letters {
				if l.Attempt > 1 {
					again = append(again, fmt.Sprint(l.Class, " ", l.Node))
				}
			}
			require.Equal(t, c.letters, again)
		})
	}
}

// Keys of different partitions have nothing to do with each other (rule H1).
func TestDedupePartitions(t *testing.T) {
	t.Parallel()
	rows := []event{{"a", 0}, {"a", 100}, {"b", 0}, {"b", 100}, {"a", 0}, {"a", 100}}
	got := passFrom(t, forEver(), leattest.Rows(rows...).Partitions(2))
	require.Len(t, got.rows, 4)
	got = passFrom(t, tenSeconds(), leattest.Rows(rows...).Partitions(2))
	require.Len(t, got.rows, 4)
	require.EqualValues(t, 2, got.stage.Filtered)
}

func ExampleDedupe() {
	type pago struct {
		ID     string
		Creado time.Time
	}
	at := func(clock string) time.Time { t, _ := time.Parse("15:04 2006-01-02", clock+" 2026-03-01"); return t }

	p := leat.New("pagos", config("pagos-once"))
	rows := leat.From(p, leattest.Rows(
		pago{"p-1", at("09:00")},
		pago{"p-2", at("09:01")},
		pago{"p-1", at("09:00")}, // sent again
		pago{"p-3", at("11:30")}, // now keys from before 10:30 are forgotten
		pago{"p-2", at("09:01")}, // so nobody knows
		pago{"p-3", at("11:31")},
	))
	once := leat.Via(rows, "once", &stage.Dedupe[pago, string]{
		Key:         func(p *pago) string { return p.ID },
		Time:        func(p *pago) time.Time { return p.Creado },
		TTL:         time.Hour,
		OnDuplicate: func(p *pago) { fmt.Println("duplicate:", p.ID) },
	})
	sink := leattest.Collect[pago]()
	leat.To(once, sink)
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
	}
	for _, p := range sink.Committed() {
		fmt.Println("paid:", p.ID)
	}
	// Output:
	// duplicate: p-1
	// duplicate: p-3
	// row 4 rejected (Late): the row is from 2026-03-01T09:01:00Z; here keys from before 2026-03-01T10:30:00Z are forgotten by now, so nobody can tell whether it is a duplicate: keep keys longer (TTL, OutOfOrderness), or let such rows pass (PassLate)
	// paid: p-1
	// paid: p-2
	// paid: p-3
}
