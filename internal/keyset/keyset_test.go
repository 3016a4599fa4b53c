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

func encode(words ...any) (b []byte) {
	for _, w := range words {
		b, _ = binary.Append(b, binary.LittleEndian, w)
	}
	return b
}

// at finds the last entry of k in a timed set's.
func at(saved []byte, k Key) (e modelEntry, ok bool) {
	for ; len(saved) > 0; saved = saved[32:] {
		if binary.LittleEndian.Uint64(saved) == k.Hi && binary.LittleEndian.Uint64(saved[8:]) == k.Lo {
			e, ok = modelEntry{binary.LittleEndian.Uint64(saved[16:]), int64(binary.LittleEndian.Uint64(saved[24:]))}, true
		}
	}
	return e, ok
}

// check runs what ops say against a map.
func check(t *testing.T, timed bool, ops []byte) {
	s, model := New(timed), map[Key]modelEntry{}
	limit := int64(never)
	var saved []byte
	var mark uint64
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
				s.Sweep(limit, int(ops[i+3]%3))
			}
		case 7:
			if ops[i+2]%16 > 0 {
				continue
			}
			// Piece by piece, as a snapshot and deltas are.
			saved, mark = s.Append(saved, mark, limit), s.End()
			if ops[i+3]%2 > 0 {
				continue
			}
			if timed { // a later entry of a key counts
				if _, known := at(saved, k); !known {
					model[k] = modelEntry{12345, time - 1}
				}
				saved = append(encode(k, uint64(12345), time-1), saved...)
			}
			s = New(timed)
			require.NoError(t, s.Load(saved))
			saved, mark = s.Append(nil, 0, limit), s.End()
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
	require.Len(t, s.Append(nil, 0, limit), live*s.EntryBytes())
	require.GreaterOrEqual(t, s.Len(), live)
	sound(t, s)
}

// sound demands that the counters are right, and that all that the index has is in the log.
func sound(t *testing.T, s *Set) {
	slots, keys := 0, 0
	for i := range s.shards {
		sh := &s.shards[i]
		slots += len(sh.slots)
		n := 0
		for _, slot := range sh.slots {
			if slot == 0 {
				continue
			}
			n++
			e := s.log.entry(slot)
			require.Equal(t, uint8(i), shardOf(Key{e[0], e[1]}))
			at, found := s.find(sh, Key{e[0], e[1]})
			require.NotNil(t, found)
			require.Equal(t, slot, sh.slots[at])
		}
		require.Equal(t, sh.len, n)
		require.LessOrEqual(t, n, sh.most)
		keys += n
	}
	require.Equal(t, s.slots, slots)
	require.Equal(t, s.len, keys)
	entries, bytes := uint64(0), 0
	for _, b := range s.log.blocks {
		entries += uint64(len(b) / s.log.words)
		bytes += cap(b) * 8
	}
	require.Equal(t, s.log.next-s.log.first, entries)
	require.Equal(t, s.log.bytes, bytes)
	require.Len(t, s.log.newest, len(s.log.blocks))
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
	f.Add(true, encode(Key{1, 2}, uint64(3), int64(4), Key{1, 2}, uint64(5), int64(6)))
	f.Add(false, make([]byte, 24))
	f.Fuzz(func(t *testing.T, timed bool, entries []byte) {
		s := New(timed)
		if err := s.Load(entries); err != nil {
			return
		}
		again := New(timed)
		require.NoError(t, again.Load(s.Append(nil, 0, never)))
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
	require.Less(t, full, n*48, "32 B for an entry, 8 for a slot at a load of 53 to 80 %")
	for s.Sweep(n*9/10, 5) > 0 {
	}
	require.LessOrEqual(t, s.Len(), n/10+blockLen)
	sound(t, s)
	require.Less(t, s.Bytes(), full/5)
	for s.Sweep(n, 1) > 0 {
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
	require.Less(t, s.Bytes(), live*(32+8*100/50))
}

// What the documentation of stage.Dedupe says of partitions of few keys.
func TestBytesOfFewKeys(t *testing.T) {
	t.Parallel()
	for _, live := range []int64{1, 10, 100} {
		s, r := New(true), rand.New(rand.NewPCG(1, 2))
		for i := range int64(20_000) {
			s.Add(Key{r.Uint64(), r.Uint64()}, 0, i, i-live)
			if s.Sweep(i-live, 1); i == live {
				require.Less(t, s.Bytes(), 22_000)
			}
			require.Less(t, s.Bytes(), 100_000)
		}
		require.Greater(t, s.Bytes(), 43_000)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, New(true).Load(make([]byte, 31)), "cut short")
	require.ErrorContains(t, New(false).Load(make([]byte, 24)), "no key")
	require.ErrorContains(t, New(false).Load(encode(Key{1, 1}, uint64(1), Key{}, uint64(7))), "no key")
}

// Memory per key over the sizes between two steps of growth.
func TestBytesPerKey(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		timed bool
		most  float64
	}{{false, 40}, {true, 48}} {
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
