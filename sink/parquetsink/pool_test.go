package parquetsink

import (
	"bytes"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/sink/parquetsink/internal/typetest"
)

func TestBufferClasses(t *testing.T) {
	t.Parallel()
	last, before := -1, 0
	for n := 1; n <= mostBuffer; n += 1 + n/37 {
		class, size := bufferClass(n)
		require.Less(t, class, bufferClasses)
		require.GreaterOrEqual(t, size, n)
		require.LessOrEqual(t, size, max(leastBuffer, n+n/4+1), "F8: little is wasted")
		same, _ := bufferClass(size)
		require.Equal(t, class, same, "a buffer goes back to its own class")
		require.Equal(t, class > last, size > before)
		last, before = class, size
	}
	p := newPool()
	b := p.get(1000)
	p.put(append(b, 1, 2, 3))
	again := p.get(1001)
	assert.Same(t, &b[:1][0], &again[:1][0], "buffers are used again")
	assert.Empty(t, again)
	p.put(again)
	assert.Equal(t, cap(again), cap(p.get(600)), "also for a little less")
	assert.Zero(t, p.spare)
	p.put(make([]byte, 0, 4<<10))
	assert.Less(t, cap(p.get(700)), 2<<10, "F8: not for a lot less")
	p = newPool()
	huge := p.get(mostBuffer + 1)
	p.put(huge)
	assert.Zero(t, p.spare)
}

// TestRowGroupsInTheBackground: what is encoded while the next rows come is written
// in order.
func TestRowGroupsInTheBackground(t *testing.T) {
	t.Parallel()
	rows := anchas(60_000)
	f := open(t, Config[ancha]{RowGroupRows: 3000})
	var all [3]bytes.Buffer
	var files [3]interface {
		Append([]int32) error
		Close() error
	}
	for i := range files {
		var err error
		files[i], err = f.Create(&all[i])
		require.NoError(t, err)
	}
	for at := 0; at < len(rows); at += 1000 {
		require.Empty(t, f.Prepare(rows[at:at+1000]))
		for _, file := range files {
			require.NoError(t, file.Append(nil))
		}
	}
	for i := range files {
		require.NoError(t, files[i].Close())
		got := typetest.Read(t, all[i].Bytes())
		require.Len(t, got, len(rows))
		for k, r := range got {
			require.Equal(t, typetest.Int(rows[k].ID), r[0])
			require.Equal(t, rows[k].Cliente, r[2])
		}
	}
	assert.Equal(t, all[0].Bytes(), all[1].Bytes(), "a file does not depend on how its work was shared out")
	f.Close()
}

// TestGivenUp: files that are neither flushed nor closed leave nothing behind.
// TestMain looks for goroutines.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	f := open(t, Config[ancha]{RowGroupRows: 10_000})
	rows := anchas(10_000)
	require.Empty(t, f.Prepare(rows))
	for range 5 {
		w, err := f.Create(io.Discard)
		require.NoError(t, err)
		require.NoError(t, w.Append(nil))
	}
	f.Close()
	assert.Zero(t, f.own.pool.workers)
	assert.Zero(t, f.own.pool.spare)
}

// TestEncoderTrouble: a fault of the encoder, a panic included, is an error of the
// file, whoever does the work.
func TestEncoderTrouble(t *testing.T) {
	t.Parallel()
	for _, n := range []int{10, 10_000} { // in place, in the pool
		f := newEngine().create(io.Discard, []Column{{Name: "a", Type: Int, Bits: 64}, {Name: "b", Type: String}}, FileOptions{PageBytes: 1 << 20}, 0)
		v := []Vector{{Int64s: make([]int64, n)}, {Strings: make([]string, n)}}
		require.NoError(t, f.Write(n, v))
		f.open[1].pages[0].data = f.open[1].pages[0].data[:1]
		f.open[1].pages[0].values = -1
		f.open[0].pages = append(f.open[0].pages, rawPage{coded: true, values: 1})
		err := f.Close()
		require.ErrorContains(t, err, "column a: the encoder panicked")
	}
	f := newEngine().create(&fullDisk{2}, []Column{{Name: "a", Type: Int, Bits: 64}}, FileOptions{PageBytes: 1 << 20}, 0)
	err := errors.New("")
	for range 5 {
		if err = f.Write(10_000, []Vector{{Int64s: make([]int64, 10_000)}}); err == nil {
			err = f.endGroup()
		}
		if err != nil {
			break
		}
	}
	require.ErrorIs(t, err, errFull)
}

// TestFewRows: a file of few rows takes little memory (rule F8).
func TestFewRows(t *testing.T) {
	t.Parallel()
	f := open(t, Config[venta12]{PartitionBy: []Partition[venta12]{{"mes", func(v venta12) string { return v.Mes }}}})
	require.Empty(t, f.Prepare(ventas12(100)))
	w, err := f.Create(io.Discard)
	require.NoError(t, err)
	require.NoError(t, w.Append(nil))
	assert.Less(t, w.Buffered(), int64(64<<10))

	// Neither do those with a text that is too long for the dictionary.
	type nota struct{ A, B, C, D string }
	n := open(t, Config[nota]{PartitionBy: []Partition[nota]{{"x", func(nota) string { return "" }}}})
	long := strings.Repeat("x", mostText+1)
	require.Empty(t, n.Prepare([]nota{{}, {long, long, long, long}}))
	w, err = n.Create(io.Discard)
	require.NoError(t, err)
	require.NoError(t, w.Append([]int32{0}))
	require.NoError(t, w.Append([]int32{1}))
	assert.Less(t, w.Buffered(), int64(64<<10))
}

// TestPackBools: eight at a time, and the rest.
func TestPackBools(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	for n := range 40 {
		bools := make([]byte, n)
		want := make([]byte, (n+7)/8)
		for i := range bools {
			bools[i] = byte(r.IntN(2))
			want[i/8] |= bools[i] << (i % 8)
		}
		assert.Equal(t, want, packBools([]byte{}, bools))
	}
}

// TestKeys: the order of the keys is that of the values, and bounds come out as they
// went in.
func TestKeys(t *testing.T) {
	t.Parallel()
	doubles := []float64{math.Inf(-1), -math.MaxFloat64, -1, -math.SmallestNonzeroFloat64, math.Copysign(0, -1), 0, math.SmallestNonzeroFloat64, 1, math.MaxFloat64, math.Inf(1)}
	c := Column{Type: Double}
	for i, x := range doubles {
		if i > 0 {
			require.Less(t, doubleKey(doubles[i-1]), doubleKey(x))
			require.Less(t, floatKey(float32(-i)), floatKey(float32(1-i)))
		}
		if x != 0 {
			require.Equal(t, numbers[byte](c.bound(doubleKey(x), false)), c.bound(doubleKey(x), true))
		}
	}
	require.Greater(t, doubleKey(math.NaN()), doubleKey(math.Inf(1)))
	require.Less(t, doubleKey(math.Copysign(math.NaN(), -1)), doubleKey(math.Inf(-1)))
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 0x80}, c.bound(doubleKey(0), false), "the smallest zero is -0")
	require.Equal(t, make([]byte, 8), c.bound(doubleKey(math.Copysign(0, -1)), true))
	lo, hi := keysOf([]int64{5, -1, 3}, math.MinInt64)
	u := Column{Type: Uint, Bits: 64}
	require.Equal(t, []byte{3, 0, 0, 0, 0, 0, 0, 0}, u.bound(lo, false))
	require.Equal(t, []byte{255, 255, 255, 255, 255, 255, 255, 255}, u.bound(hi, true))
}

// TestCodes: equal texts get equal numbers wherever they lie, and an empty one is a
// text like others.
func TestCodes(t *testing.T) {
	t.Parallel()
	var c coder
	for batch := range 3 {
		require.True(t, c.begin())
		want := map[string]uint32{}
		rows := make([]string, 3000) // all of a batch live as long as it does: no address comes twice
		for i := range rows {
			rows[i] = strings.Clone([]string{"", "a", "b", "long enough to lie elsewhere"}[i*7%4])
			s := rows[i]
			got := c.code(s, addressOf(s))
			if first, ok := want[s]; ok {
				require.Equal(t, first, got, batch)
			}
			want[s] = got
			require.Equal(t, s, c.texts[got])
		}
		runtime.KeepAlive(rows)
		require.Len(t, c.texts, 4)
		require.False(t, c.giveUp(len(rows)))
	}
	require.True(t, c.begin())
	for i := range 200 {
		s := time.Duration(i).String()
		c.code(s, addressOf(s))
	}
	c.code(strings.Repeat("x", 10*maxDictionary), 1)
	texts := c.texts
	require.True(t, c.giveUp(200))
	for _, s := range texts {
		require.Empty(t, s, "F8: it keeps no batch while it rests")
	}
	require.LessOrEqual(t, c.dict.memory(), 64<<10, "F8: nor a copy of one")
	for range coderRest {
		require.False(t, c.begin())
	}
	require.True(t, c.begin())
}

// TestMemoryOfTextsIsUsedAgain: the texts of a batch may lie where others lay in the
// batch before.
func TestMemoryOfTextsIsUsedAgain(t *testing.T) {
	t.Parallel()
	type fila struct {
		S string
		N *string
		L []string
	}
	f := open(t, Config[fila]{})
	var b bytes.Buffer
	w, err := f.Create(&b)
	require.NoError(t, err)
	memory := []byte("aaaa")
	var want [][]any
	for batch := range 20 {
		copy(memory, strings.Repeat(string(rune('a'+batch)), 4))
		rows := make([]fila, 100)
		for i := range rows {
			s := view(memory[i%2 : 3])
			rows[i] = fila{s, &s, []string{s}}
			text := strings.Clone(s)
			want = append(want, []any{text, text, []any{text}})
		}
		require.Empty(t, f.Prepare(rows))
		require.NoError(t, w.Append(nil))
	}
	copy(memory, "zzzz")
	require.NoError(t, w.Close())
	require.Equal(t, want, typetest.Read(t, b.Bytes()))
}

// TestMicros: as UnixMicro, in any zone, with a monotonic clock or without.
func TestMicros(t *testing.T) {
	t.Parallel()
	type fila struct{ T time.Time }
	now := time.Now()
	rows := []fila{{now}, {now.Round(0)}, {now.UTC()}, {now.In(time.FixedZone("", 3600))}, {time.Unix(-1, 999_999_999)}, {time.Unix(-62135596800, 0)},
		{time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)}, {time.Time{}}, {time.Unix(1<<33, 1)}, {time.Unix(0, -1)}}
	f := open(t, Config[fila]{})
	require.Empty(t, f.Prepare(rows))
	for i, r := range rows {
		assert.Equal(t, r.T.UnixMicro(), f.vectors[0].Int64s[i], r.T)
	}
}

// TestFaultOfTheLastColumn: who sees that all columns are encoded sees the fault of
// the last one too, else a file with a hole would be committed.
func TestFaultOfTheLastColumn(t *testing.T) {
	t.Parallel()
	p := newPool()
	column := &Column{Name: "a", Type: Int, Bits: 64}
	for range 3000 {
		g := &rowGroup{chunks: []*chunk{{column: column, width: 8, pages: []rawPage{{rows: 1, values: 1}}}}, out: make([]encoded, 1)}
		g.left.Store(1)
		go p.run(job{g, 0}, &bench{})
		for g.left.Load() > 0 {
			continue // without the lock, as settle does
		}
		require.ErrorContains(t, p.wait(g), "column a: the encoder panicked")
	}
}

// TestBufferedIsTrue: what a file says that it buffers is what its chunks hold, also
// when a page was begun that the next text is too long for (rule F8).
func TestBufferedIsTrue(t *testing.T) {
	t.Parallel()
	f := newEngine().create(io.Discard, []Column{{Name: "a", Type: String, Null: true}, {Name: "b", Type: String}}, FileOptions{PageBytes: 1 << 20}, 50_000)
	r := rand.New(rand.NewPCG(1, 1))
	for range 40 {
		const n = 5000
		a, b, valid := make([]string, n), make([]string, n), make([]bool, n)
		for i := range a {
			a[i], b[i], valid[i] = "", time.Duration(r.IntN(20_000)).String(), r.IntN(9) > 0
		}
		if r.IntN(3) == 0 {
			a[0], valid[0] = strings.Repeat("x", mostText+1), true
		}
		require.NoError(t, f.Write(n, []Vector{{Strings: a, Valid: valid}, {Strings: b}}))
		if r.IntN(4) == 0 {
			require.NoError(t, f.endGroup())
			continue
		}
		held := int64(0)
		for _, k := range f.open {
			for i := range k.pages {
				held += int64(cap(k.pages[i].data) + cap(k.pages[i].def) + cap(k.pages[i].rep))
			}
			if d := k.dict; d != nil {
				held += int64(cap(d.plain) + 4*(len(d.table)+cap(d.starts)+cap(d.hashes)))
			}
		}
		require.Equal(t, held, f.Buffered()-pendingBytes(f))
	}
	require.NoError(t, f.endGroup())
	require.NoError(t, f.Close())
	require.Zero(t, f.Buffered())
}

func pendingBytes(f *fileWriter) (n int64) {
	for _, g := range f.pending {
		n += g.held.Load()
	}
	return n
}

// TestRunsOfPicks: rows that lie side by side are taken as one, over the ends of row
// groups, and others are not taken for such.
func TestRunsOfPicks(t *testing.T) {
	t.Parallel()
	rows := anchas(3000)
	for _, group := range []int{7, 100, 5000} {
		f := open(t, Config[ancha]{RowGroupRows: group})
		require.Empty(t, f.Prepare(rows))
		var b bytes.Buffer
		w, err := f.Create(&b)
		require.NoError(t, err)
		var want []string
		for _, pick := range [][]int32{{5}, {0, 1, 2}, {2997, 2998, 2999}, {1, 3}, {0, 2, 3, 5}, {10, 11, 12, 14}, nil} {
			if pick == nil {
				for i := range int32(250) {
					pick = append(pick, 500+i)
				}
				pick = append(pick, 900)
			}
			require.NoError(t, w.Append(pick))
			for _, i := range pick {
				want = append(want, typetest.Int(rows[i].ID)+rows[i].Cliente)
			}
		}
		require.NoError(t, w.Close())
		var got []string
		for _, r := range typetest.Read(t, b.Bytes()) {
			got = append(got, r[0].(string)+r[2].(string))
		}
		require.Equal(t, want, got)
		f.Close()
	}
}
