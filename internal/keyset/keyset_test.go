package keyset

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

type modelEntry struct {
	place uint64
	time  int64
}

// check runs what ops say against a map.
func check(t *testing.T, timed bool, ops []byte) {
	s, model := New(timed), map[Key]modelEntry{}
	limit := int64(never)
	get := func(k Key) (modelEntry, bool) {
		e, ok := model[k]
		return e, ok && (!timed || e.time > limit)
	}
	for i := 0; i+4 <= len(ops); i += 4 {
		// Few keys, and of them many that fall into one shard and one slot.
		k := Key{uint64(ops[i+1]%3) << 62, uint64(ops[i+2])}
		if ops[i+1]&8 != 0 {
			k.Hi |= uint64(ops[i+3]) << 50
		}
		if k == (Key{}) {
			k.Lo = 1000
		}
		time := limit + int64(int8(ops[i+3]))
		if limit == never {
			time = int64(ops[i+3])
		}
		want, found := get(k)
		switch ops[i] % 8 {
		default:
			was, ok := s.Add(k, uint64(i), time, limit)
			require.Equal(t, found, ok)
			if found {
				require.Equal(t, want.place, was)
			} else {
				model[k] = modelEntry{uint64(i), time}
			}
		case 5:
			s.Touch(k)
			was, ok := s.Get(k, limit)
			require.Equal(t, found, ok)
			if found {
				require.Equal(t, want.place, was)
			}
		case 6:
			if timed {
				limit = max(limit, 0) + int64(ops[i+2]%16)
				s.Sweep(limit, int(ops[i+3])*8)
			}
		case 7:
			if ops[i+2]%16 > 0 {
				continue
			}
			saved := s.Append(nil, limit)
			if timed { // a later entry of a key counts
				saved = append(s.AppendEntry(nil, k, 12345, time-1), saved...)
				if !found {
					model[k] = modelEntry{12345, time - 1}
				}
			}
			s = New(timed)
			require.NoError(t, s.Load(saved))
		}
	}
	live := 0
	for k, want := range model {
		e, found := get(k)
		was, ok := s.Get(k, limit)
		require.Equal(t, found, ok)
		if found {
			live++
			require.Equal(t, e.place, was)
			require.Equal(t, want, e)
		}
	}
	require.Len(t, s.Append(nil, limit), live*s.EntryBytes())
	require.GreaterOrEqual(t, s.Len(), live)
	slots, entries := 0, 0
	for i := range s.shards {
		sh := &s.shards[i]
		require.Len(t, sh.slots, int(sh.n)*s.words)
		slots += int(sh.n)
		n := 0
		for at := 0; at < len(sh.slots); at += s.words {
			if sh.slots[at]|sh.slots[at+1] != 0 {
				n++
			}
		}
		require.Equal(t, sh.len, n)
		require.LessOrEqual(t, n, sh.most)
		entries += n
	}
	require.Equal(t, s.slots, slots)
	require.Equal(t, s.len, entries)
}

func TestSetIsAMap(t *testing.T) {
	t.Parallel()
	for _, timed := range []bool{false, true} {
		for seed := range uint64(200) {
			r := rand.New(rand.NewPCG(seed, 1))
			ops := make([]byte, 4*r.IntN(2000))
			for i := range ops {
				ops[i] = byte(r.Uint32())
			}
			check(t, timed, ops)
		}
	}
}

func FuzzSet(f *testing.F) {
	f.Add(true, []byte("aaaabbbbcccc\x06\x00\x09\xffaaaa\x07\x00\x00\x00aaaa"))
	f.Add(false, []byte("aaaabbbbcccc"))
	f.Fuzz(check)
}

func FuzzLoad(f *testing.F) {
	s := New(true)
	f.Add(true, s.AppendEntry(s.AppendEntry(nil, Key{1, 2}, 3, 4), Key{1, 2}, 5, 6))
	f.Add(false, make([]byte, 24))
	f.Fuzz(func(t *testing.T, timed bool, entries []byte) {
		s := New(timed)
		if err := s.Load(entries); err != nil {
			return
		}
		again := New(timed)
		require.NoError(t, again.Load(s.Append(nil, never)))
		require.GreaterOrEqual(t, s.Len(), again.Len()) // a time of never is expired always
	})
}

// The memory goes back when what was in it has expired.
func TestSweepGivesMemoryBack(t *testing.T) {
	t.Parallel()
	s := New(true)
	r := rand.New(rand.NewPCG(1, 2))
	const n = 200_000
	for i := range n {
		s.Add(Key{r.Uint64(), r.Uint64()}, uint64(i), int64(i), never)
	}
	full := s.Bytes()
	require.Equal(t, n, s.Len())
	require.Less(t, full, n*52, "32 B for a key, at a load of 53 to 80 %")
	for shards := 0; shards < Shards; {
		n, _ := s.Sweep(n*9/10, 5000)
		shards += n
	}
	require.Less(t, s.Len(), n*14/100)
	require.Less(t, s.Bytes(), full/5)
	for shards := 0; shards < Shards; {
		n, _ := s.Sweep(n, 1)
		shards += n
	}
	require.Zero(t, s.Len())
	require.Less(t, s.Bytes(), 20_000)
	_, found := s.Get(Key{1, 2}, n)
	require.False(t, found)
}

// A set that is swept by growing alone, as when no time is left for Sweep, does not grow
// beyond what its live entries need.
func TestMemoryIsBoundedByLiveEntries(t *testing.T) {
	t.Parallel()
	s := New(true)
	r := rand.New(rand.NewPCG(1, 2))
	const live = 50_000
	for i := range int64(20 * live) {
		s.Add(Key{r.Uint64(), r.Uint64()}, 0, i, i-live)
	}
	require.Less(t, s.Bytes(), live*32*100/50)
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, New(true).Load(make([]byte, 31)), "cut short")
	require.ErrorContains(t, New(false).Load(make([]byte, 24)), "no key")
	entry := binary.LittleEndian.AppendUint64(make([]byte, 16), 7)
	require.ErrorContains(t, New(false).Load(append(New(false).AppendEntry(nil, Key{1, 1}, 1, 0), entry...)), "no key")
}

// Memory per key over the sizes between two steps of growth.
func TestBytesPerKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		timed bool
		most  float64
	}{{false, 40}, {true, 53}} {
		s := New(c.timed)
		r := rand.New(rand.NewPCG(1, 2))
		worst, sum, n := 0.0, 0.0, 0
		for i := range 1_000_000 {
			s.Add(Key{r.Uint64(), r.Uint64()}, uint64(i), int64(i), never)
			if i >= 300_000 && i%10_000 == 0 {
				per := float64(s.Bytes()) / float64(s.Len())
				worst, sum, n = max(worst, per), sum+per, n+1
			}
		}
		t.Logf("timed %v: %.1f B per key at 1,000,000; %.1f at worst, %.1f on average", c.timed, float64(s.Bytes())/1e6, worst, sum/float64(n))
		require.Less(t, worst, c.most)
	}
}

func BenchmarkAdd(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		keys := make([]Key, n)
		r := rand.New(rand.NewPCG(1, 2))
		for i := range keys {
			keys[i] = Key{r.Uint64(), r.Uint64()}
		}
		b.Run(fmt.Sprintf("new up to %d", n), func(b *testing.B) {
			for i := 0; i < b.N; i += n {
				s := New(false)
				for j, k := range keys {
					s.Add(k, uint64(j), 0, never)
				}
			}
		})
		b.Run(fmt.Sprintf("found in %d", n), func(b *testing.B) {
			s := New(false)
			for j, k := range keys {
				s.Add(k, uint64(j), 0, never)
			}
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				for j, k := range keys {
					s.Add(k, uint64(j), 0, never)
				}
			}
		})
		b.Run(fmt.Sprintf("touched and found in %d", n), func(b *testing.B) {
			s := New(false)
			for j, k := range keys {
				s.Add(k, uint64(j), 0, never)
			}
			b.ResetTimer()
			x := uint64(0)
			for i := 0; i < b.N; i += n {
				for j := 0; j+64 <= n; j += 64 {
					for _, k := range keys[j : j+64] {
						x += s.Touch(k)
					}
					for l, k := range keys[j : j+64] {
						s.Add(k, uint64(l), 0, never)
					}
				}
			}
			require.NotEqual(b, uint64(1), x)
		})
	}
}
