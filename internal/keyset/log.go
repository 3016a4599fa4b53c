package keyset

import (
	"encoding/binary"
	"slices"
)

// log holds the entries in the order that they were added. An entry is its words: key, place
// and, in a timed set, time. They are numbered from 0.
type log struct {
	words  int        // of an entry: 3, or 4 with a time
	blocks [][]uint64 // all but the last are full
	newest []int64    // the greatest time in each block
	first  uint64     // the number of the first entry of the first block
	next   uint64     // of the next one to be added
	bytes  int        // of the blocks
}

const (
	blockBits = 10
	blockLen  = 1 << blockBits // entries
	blockMin  = 32             // those that the first block has room for
)

func (l *log) timed() bool { return l.words == 4 }

// full tells whether the next entry begins a new block.
func (l *log) full() bool { return l.next%blockLen == 0 }

// add gives the number of the new entry.
func (l *log) add(k Key, place uint64, time int64) uint64 {
	if l.next-l.first > numberMask {
		panic("keyset: more than 2^33 entries, which are 200 GB")
	}
	if l.full() {
		size := blockLen
		if l.next == 0 {
			size = blockMin // a set may stay small
		}
		l.blocks, l.newest = append(l.blocks, make([]uint64, 0, size*l.words)), append(l.newest, never)
		l.bytes += size * l.words * 8
	}
	last := len(l.blocks) - 1
	b := l.blocks[last]
	if len(b) == cap(b) {
		grown := append(make([]uint64, 0, 2*cap(b)), b...)
		l.bytes += (cap(grown) - cap(b)) * 8
		b = grown
	}
	b = append(b, k.Hi, k.Lo, place)
	if l.timed() {
		b = append(b, uint64(time))
		l.newest[last] = max(l.newest[last], time)
	}
	l.blocks[last] = b
	l.next++
	return l.next - 1
}

// at is where the entry of a slot is: the words of its block from i on.
func (l *log) at(slot uint64) (block, i int) {
	n := int((slot - l.first) & numberMask)
	return n >> blockBits, n & (blockLen - 1) * l.words
}

func (l *log) entry(slot uint64) []uint64 {
	block, i := l.at(slot)
	return l.blocks[block][i : i+l.words]
}

// set changes the entry of a slot.
func (l *log) set(slot, place uint64, time int64) {
	block, i := l.at(slot)
	l.blocks[block][i+2] = place
	if l.timed() {
		l.blocks[block][i+3] = uint64(time)
		l.newest[block] = max(l.newest[block], time)
	}
}

func (l *log) expired(entry []uint64, limit int64) bool {
	return len(entry) == 4 && int64(entry[3]) <= limit
}

// frontExpired tells whether all of the first block has expired.
func (l *log) frontExpired(limit int64) bool {
	return l.timed() && len(l.blocks) > 0 && l.newest[0] <= limit
}

func (l *log) dropFront() {
	l.bytes -= cap(l.blocks[0]) * 8
	l.blocks[0] = nil
	l.blocks, l.newest = l.blocks[1:], l.newest[1:]
	l.first += blockLen
	l.next = max(l.next, l.first) // it may have been the last one
}

// encode writes the entries from a number on that have not expired. One that another one has
// taken the place of had expired then.
func (l *log) encode(dst []byte, from uint64, limit int64) []byte {
	from = max(from, l.first)
	if from >= l.next {
		return dst
	}
	dst = slices.Grow(dst, int(l.next-from)*l.words*8)
	block, i := l.at(from)
	for ; block < len(l.blocks); block, i = block+1, 0 {
		if l.timed() && l.newest[block] <= limit {
			continue
		}
		for entries := l.blocks[block]; i < len(entries); i += l.words {
			entry := entries[i : i+l.words]
			if l.expired(entry, limit) {
				continue
			}
			for _, word := range entry {
				dst = binary.LittleEndian.AppendUint64(dst, word)
			}
		}
	}
	return dst
}
