// Package keyset is a set of keys, each hashed to 128 bits, with where each was first
// seen. It is made for many millions of them: no pointers for the garbage collector to
// follow, and memory that grows and shrinks in small steps.
package keyset

import (
	"encoding/binary"
	"errors"
	"math"
	"unsafe"
)

// Key is a hash of 128 bits, which must be a good one: places follow from its bits. The
// zero Key is not allowed.
type Key struct{ Hi, Lo uint64 }

// Set maps keys to a word, and to a time when it is Timed. It is not safe for concurrent
// use.
//
// It is a log of entries, in the order that they were added, and an index of it. The log is
// never copied: what is new since some point is its end, and what is old leaves it at the
// front, in blocks. The index is what growing copies, and looking for a key reads; it
// consists of shards by the first bits of the key, each of which grows and shrinks alone, so
// that the set never needs twice its memory.
type Set struct {
	log    log
	len    int // keys, those that have expired and were not swept included
	slots  int // of all shards
	shards [shardCount]shard
}

// never is before all times that a set may hold.
const never = math.MinInt64

// New makes an empty set. The times of one that is not timed are ignored.
func New(timed bool) *Set {
	s := &Set{}
	s.log.words = 3
	if timed {
		s.log.words = 4
	}
	return s
}

// Timed tells whether entries have a time.
func (s *Set) Timed() bool { return s.log.timed() }

// Len is the number of keys, those that have expired and were not swept included.
func (s *Set) Len() int { return s.len }

// Bytes is the memory of the set.
func (s *Set) Bytes() int { return s.slots*8 + s.log.bytes + int(unsafe.Sizeof(*s)) }

// EntryBytes is how many bytes Append writes for an entry.
func (s *Set) EntryBytes() int { return s.log.words * 8 }

// Touch reads the memory that looking for k begins at. The caller must use the result,
// or the compiler takes it out. Touching some keys before looking for them makes the
// processor fetch their memory at the same time: that is most of what a large set costs.
func (s *Set) Touch(k Key) uint64 {
	sh := &s.shards[shardOf(k)]
	if len(sh.slots) == 0 {
		return 0
	}
	return sh.slots[sh.home(slotOf(k, 0))]
}

// Get finds the place of k. An entry whose time is limit or before it has expired and is
// not found.
func (s *Set) Get(k Key, limit int64) (place uint64, ok bool) {
	sh := &s.shards[shardOf(k)]
	if len(sh.slots) == 0 {
		return 0, false
	}
	_, e := s.find(sh, k)
	if e == nil || s.log.expired(e, limit) {
		return 0, false
	}
	return e[2], true
}

// Add adds k unless it is there: then it gives its place. An entry that has expired (see
// Get) is replaced. The limit must not be less than before.
func (s *Set) Add(k Key, place uint64, time, limit int64) (was uint64, found bool) {
	if s.log.full() {
		s.Sweep(limit, 2)
	}
	sh := &s.shards[shardOf(k)]
	if sh.len >= sh.most {
		s.resize(shardOf(k), sh.len)
	}
	at, e := s.find(sh, k)
	if e != nil && !s.log.expired(e, limit) {
		return e[2], true
	}
	s.put(sh, at, e == nil, k, place, time)
	return 0, false
}

// Sweep forgets blocks at the front of the log that have expired, so many at most, and gives
// how many it was. A block has expired when the newest of its entries has.
func (s *Set) Sweep(limit int64, blocks int) (swept int) {
	for swept < blocks && s.log.frontExpired(limit) {
		first := s.log.first
		for i, entries := 0, s.log.blocks[0]; i < len(entries); i += s.log.words {
			s.forget(Key{entries[i], entries[i+1]}, first+uint64(i/s.log.words))
		}
		s.log.dropFront()
		swept++
	}
	return swept
}

// End is a point in the log: behind all entries of now.
func (s *Set) End() uint64 { return s.log.next }

// Since is how many entries there are from a point of the log on. Append writes no more.
func (s *Set) Since(from uint64) int { return int(s.log.next - max(from, s.log.first)) }

// Append writes the entries from a point of the log on behind dst, without those that have
// expired: key, place and, in a timed set, time, little-endian. 0 is the point before all.
func (s *Set) Append(dst []byte, from uint64, limit int64) []byte {
	return s.log.encode(dst, from, limit)
}

// Load adds entries that Append has written; the later one of a key counts. After an error
// the set is of no use.
func (s *Set) Load(entries []byte) error {
	size := s.EntryBytes()
	if len(entries)%size != 0 {
		return errors.New("the entries are cut short")
	}
	s.reserve(len(entries) / size)
	for ; len(entries) > 0; entries = entries[size:] {
		k := Key{binary.LittleEndian.Uint64(entries), binary.LittleEndian.Uint64(entries[8:])}
		if k == (Key{}) {
			return errors.New("an entry has no key")
		}
		place, time := binary.LittleEndian.Uint64(entries[16:]), int64(0)
		if s.Timed() {
			time = int64(binary.LittleEndian.Uint64(entries[24:]))
		}
		sh := &s.shards[shardOf(k)]
		if sh.len >= sh.most {
			s.resize(shardOf(k), sh.len)
		}
		at, e := s.find(sh, k)
		if e != nil {
			s.log.set(sh.slots[at], place, time)
			continue
		}
		s.put(sh, at, true, k, place, time)
	}
	return nil
}

// put adds an entry that the slot shall lead to. fresh tells that it led to none before.
func (s *Set) put(sh *shard, at int, fresh bool, k Key, place uint64, time int64) {
	sh.slots[at] = slotOf(k, s.log.add(k, place, time))
	if fresh {
		sh.len++
		s.len++
	}
}

// find gives the slot of k and its entry; if it is not there, the empty slot for it. The shard
// has at least one empty slot.
func (s *Set) find(sh *shard, k Key) (at int, entry []uint64) {
	want := slotOf(k, 0)
	for at = sh.home(want); ; at = sh.after(at) {
		slot := sh.slots[at]
		if slot&^numberMask == want {
			if e := s.log.entry(slot); e[0] == k.Hi && e[1] == k.Lo {
				return at, e
			}
		}
		if slot == 0 {
			return at, nil
		}
	}
}

// forget takes k out of the index, if the entry of that number is the one that it leads to.
func (s *Set) forget(k Key, number uint64) {
	sh := &s.shards[shardOf(k)]
	if !sh.remove(slotOf(k, number)) {
		return
	}
	s.len--
	switch {
	case sh.len == 0:
		s.slots -= len(sh.slots)
		*sh = shard{}
	case sh.len*4 < sh.most:
		s.resize(shardOf(k), sh.len)
	}
}

// resize gives a shard room for some more than n keys.
func (s *Set) resize(i uint8, n int) {
	sh := &s.shards[i]
	s.slots -= len(sh.slots)
	sh.resize(n, i)
	s.slots += len(sh.slots)
}

// reserve makes an empty set large enough for n entries, so that loading them need not
// copy the index several times.
func (s *Set) reserve(n int) {
	if s.slots > 0 || n < 16*shardCount {
		return
	}
	for i := range s.shards {
		s.resize(uint8(i), n/shardCount)
	}
}
