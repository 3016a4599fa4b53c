// Package keyset is a set of keys, each hashed to 128 bits, with where each was first
// seen. It is made for many millions of them: no pointers for the garbage collector to
// follow, and memory that grows and shrinks in small steps.
package keyset

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"unsafe"
)

// Key is a hash of 128 bits, which must be a good one: places follow from its bits. The
// zero Key is not allowed.
type Key struct{ Hi, Lo uint64 }

// Set maps keys to a word, and to a time when it is Timed. It is not safe for concurrent
// use.
//
// It consists of shards by the first bits of the key; each is a table of its own with
// linear probing, and grows alone. So growing copies 1/256 at a time, and the set never
// needs twice its memory. A slot is its words: key, place and, in a timed set, time.
type Set struct {
	words  int // of a slot: 3, or 4 with a time
	len    int // entries, those that have expired and were not swept included
	slots  int // of all shards
	swept  int // the shard that Sweep comes to next
	shards [Shards]shard
}

const shardBits = 8

// Shards is the number of shards.
const Shards = 1 << shardBits

type shard struct {
	slots []uint64 // an empty one has a key of zeros
	n     uint64   // how many slots
	len   int
	most  int // len that makes it grow
}

// never is before all times that a set may hold.
const never = math.MinInt64

// New makes an empty set. The times of one that is not timed are ignored.
func New(timed bool) *Set {
	if timed {
		return &Set{words: 4}
	}
	return &Set{words: 3}
}

// Timed tells whether entries have a time.
func (s *Set) Timed() bool { return s.words == 4 }

// Len is the number of entries, those that have expired and were not swept included.
func (s *Set) Len() int { return s.len }

// Bytes is the memory of the set.
func (s *Set) Bytes() int { return s.slots*s.words*8 + int(unsafe.Sizeof(*s)) }

// EntryBytes is how many bytes Append writes for an entry.
func (s *Set) EntryBytes() int { return s.words * 8 }

// room is how many slots the shard gets for n entries: 53 % are full then, and one more
// step is due at 80 %. Steps by half cost two copies of each entry, which are less than
// half of what adding it costs. The small number makes five kinds of shards that grow at
// different times, so that the set as a whole is always near 24 B / 0.66 for a key.
func (s *Set) room(sh, n int) int { return n*15/8 + 8 + sh%5 }

// home is the slot where looking for a key begins. It grows with the key, so that
// copying a shard into a larger one goes through both in order.
func (sh *shard) home(k Key) uint64 {
	at, _ := bits.Mul64(k.Hi<<shardBits, sh.n)
	return at
}

// Touch reads the memory that looking for k begins at. The caller must use the result,
// or the compiler takes it out. Touching some keys before looking for them makes the
// processor fetch their memory at the same time: that is most of what a large set costs.
func (s *Set) Touch(k Key) uint64 {
	sh := &s.shards[k.Hi>>(64-shardBits)]
	if sh.n == 0 {
		return 0
	}
	return sh.slots[sh.home(k)*uint64(s.words)]
}

// find gives the slot's first word in slots, and whether k is there; if not, it is the
// empty one for k. The shard has at least one empty slot.
func (s *Set) find(sh *shard, k Key) (at uint64, there bool) {
	slots, words := sh.slots, uint64(s.words)
	for at = sh.home(k) * words; ; {
		slot := slots[at : at+3]
		if slot[0] == k.Hi && slot[1] == k.Lo {
			return at, true
		}
		if slot[0]|slot[1] == 0 {
			return at, false
		}
		if at += words; at == uint64(len(slots)) {
			at = 0
		}
	}
}

// Get finds the place of k. An entry whose time is limit or before it has expired and is
// not found.
func (s *Set) Get(k Key, limit int64) (place uint64, ok bool) {
	sh := &s.shards[k.Hi>>(64-shardBits)]
	if sh.n == 0 {
		return 0, false
	}
	at, there := s.find(sh, k)
	if !there || s.expired(sh, at, limit) {
		return 0, false
	}
	return sh.slots[at+2], true
}

// Add adds k unless it is there: then it gives its place. An entry that has expired (see
// Get) is replaced.
func (s *Set) Add(k Key, place uint64, time, limit int64) (was uint64, found bool) {
	i := k.Hi >> (64 - shardBits)
	sh := &s.shards[i]
	if sh.len >= sh.most {
		s.rebuild(int(i), limit)
	}
	at, there := s.find(sh, k)
	if there && !s.expired(sh, at, limit) {
		return sh.slots[at+2], true
	}
	s.set(sh, at, there, k, place, time)
	return 0, false
}

func (s *Set) expired(sh *shard, at uint64, limit int64) bool {
	return s.words == 4 && int64(sh.slots[at+3]) <= limit
}

func (s *Set) set(sh *shard, at uint64, there bool, k Key, place uint64, time int64) {
	slot := sh.slots[at : at+uint64(s.words)]
	slot[0], slot[1], slot[2] = k.Hi, k.Lo, place
	if len(slot) == 4 {
		slot[3] = uint64(time)
	}
	if !there {
		sh.len++
		s.len++
	}
}

// rebuild makes a shard the right size for its entries and one more, without those that
// have expired.
func (s *Set) rebuild(i int, limit int64) {
	sh, words := &s.shards[i], s.words
	old := sh.slots
	live := sh.len
	if words == 4 {
		live = 0
		for at := 0; at < len(old); at += words {
			if old[at]|old[at+1] != 0 && int64(old[at+3]) > limit {
				live++
			}
		}
	}
	s.resize(sh, s.room(i, live))
	for at := 0; at < len(old); at += words {
		k := Key{old[at], old[at+1]}
		if k == (Key{}) || words == 4 && int64(old[at+3]) <= limit {
			continue
		}
		to := sh.home(k) * uint64(words)
		for sh.slots[to]|sh.slots[to+1] != 0 { // no key comes twice
			if to += uint64(words); to == uint64(len(sh.slots)) {
				to = 0
			}
		}
		slot := sh.slots[to : to+uint64(words)]
		slot[0], slot[1], slot[2] = k.Hi, k.Lo, old[at+2]
		if words == 4 {
			slot[3] = old[at+3]
		}
	}
	s.len += live - sh.len
	sh.len = live
}

func (s *Set) resize(sh *shard, n int) {
	s.slots += n - int(sh.n)
	sh.n, sh.most = uint64(n), n*4/5
	sh.slots = make([]uint64, n*s.words)
}

// Sweep forgets entries that have expired, in the next shards in turn, Shards of which are
// all: at least one, and more until it has looked at so many slots.
func (s *Set) Sweep(limit int64, slots int) (shards, looked int) {
	for shards < Shards && (shards == 0 || looked < slots) {
		looked += int(s.shards[s.swept].n) + 1
		s.sweep(s.swept, limit)
		s.swept = (s.swept + 1) % Shards
		shards++
	}
	return shards, looked
}

// sweep makes a shard smaller when a quarter of it or more has expired: less is not
// worth the copying.
func (s *Set) sweep(i int, limit int64) {
	sh := &s.shards[i]
	dead := 0
	for at := s.words - 1; at < len(sh.slots); at += s.words {
		if sh.slots[at-3]|sh.slots[at-2] != 0 && int64(sh.slots[at]) <= limit {
			dead++
		}
	}
	switch {
	case dead == 0 || dead*4 < sh.len:
	case dead == sh.len:
		s.len -= sh.len
		s.slots -= int(sh.n)
		*sh = shard{}
	default:
		s.rebuild(i, limit)
	}
}

// Append writes all entries that have not expired behind dst: see AppendEntry.
func (s *Set) Append(dst []byte, limit int64) []byte {
	for i := range s.shards {
		old := s.shards[i].slots
		for at := 0; at < len(old); at += s.words {
			if old[at]|old[at+1] == 0 || s.words == 4 && int64(old[at+3]) <= limit {
				continue
			}
			for _, word := range old[at : at+s.words] {
				dst = binary.LittleEndian.AppendUint64(dst, word)
			}
		}
	}
	return dst
}

// AppendEntry writes an entry as EntryBytes bytes: key, place and, in a timed set, time,
// little-endian.
func (s *Set) AppendEntry(dst []byte, k Key, place uint64, time int64) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, k.Hi)
	dst = binary.LittleEndian.AppendUint64(dst, k.Lo)
	dst = binary.LittleEndian.AppendUint64(dst, place)
	if s.words == 4 {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(time))
	}
	return dst
}

// Load adds entries that Append and AppendEntry have written; the later one of a key
// counts. After an error the set is of no use.
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
		time := int64(0)
		if s.words == 4 {
			time = int64(binary.LittleEndian.Uint64(entries[24:]))
		}
		i := k.Hi >> (64 - shardBits)
		sh := &s.shards[i]
		if sh.len >= sh.most {
			s.rebuild(int(i), never)
		}
		at, there := s.find(sh, k)
		s.set(sh, at, there, k, binary.LittleEndian.Uint64(entries[16:]), time)
	}
	return nil
}

// reserve makes an empty set large enough for n entries, so that loading them need not
// copy them several times.
func (s *Set) reserve(n int) {
	if s.slots > 0 || n < 16*Shards {
		return
	}
	for i := range s.shards {
		s.resize(&s.shards[i], s.room(i, n/Shards))
	}
}
