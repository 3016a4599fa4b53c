package stage

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/leatgo/leat/internal/keyset"
)

// dedupeMemory is what is remembered of one partition. Its owner is the call of Process,
// Restore, Delta or Snapshot for the partition.
type dedupeMemory struct {
	set     *keyset.Set
	seed    keySeed
	newest  int64 // the greatest event time, µs; noTime before there is one
	arrival int64 // the greatest arrival that was asked for, µs; noTime likewise
	least   int64 // of limit: what it was in lives before, which may have had a smaller TTL

	saved   dedupeMark
	base    int    // bytes of set at that time
	touched uint64 // see keyset.Set.Touch

	size        *dedupeSize // of the stage
	keys, bytes int64       // what is in it of this one
}

// dedupeSize is how much a stage remembers, of all partitions. It is asked for with each batch,
// so it does not depend on how many there are.
type dedupeSize struct{ keys, bytes atomic.Int64 }

// dedupeMark is what the last piece of state was about: the times, which are saved whole each
// time, and the end of what the set held.
type dedupeMark struct {
	newest, arrival int64
	end             uint64
}

func newDedupeMemory(timed bool, size *dedupeSize) *dedupeMemory {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	m := &dedupeMemory{
		set: keyset.New(timed), newest: noTime, arrival: noTime, least: noTime, size: size,
		seed: keySeed{binary.LittleEndian.Uint64(b[:]), binary.LittleEndian.Uint64(b[8:])},
	}
	m.settle()
	return m
}

// settle notes that all there is has been saved.
func (m *dedupeMemory) settle() { m.saved, m.base = m.mark(), m.set.Bytes() }

func (m *dedupeMemory) mark() dedupeMark { return dedupeMark{m.newest, m.arrival, m.set.End()} }

// limit is the time of the newest keys that have expired: those for which first + ttl <=
// watermark, and the watermark is newest - bound - 1 (rules C2, G2). It never goes back.
func (m *dedupeMemory) limit(ttl, bound int64) int64 {
	if m.newest == noTime {
		return noTime
	}
	return max(m.newest-bound-1-ttl, m.least)
}

// sweep gives memory of forgotten keys back, a little with each batch. Which rows pass does
// not depend on it.
func (m *dedupeMemory) sweep(ttl, bound int64, rows int) {
	if m.newest != noTime {
		m.set.Sweep(m.limit(ttl, bound), 1+rows/256)
	}
}

// measure tells the stage how much this is. What is to be saved counts as growth, also when as much
// was forgotten since: the engine makes a cut when the state has grown (rule E9), and nothing else
// bounds the next piece.
func (m *dedupeMemory) measure() {
	bytes := m.set.Bytes()
	if n := m.set.Since(m.saved.end); n > 0 {
		bytes = max(bytes, m.base+n*m.set.EntryBytes())
	}
	m.counts(int64(m.set.Len()), int64(bytes))
}

// counts puts what it has into the size of the stage.
func (m *dedupeMemory) counts(keys, bytes int64) {
	m.size.keys.Add(keys - m.keys)
	m.size.bytes.Add(bytes - m.bytes)
	m.keys, m.bytes = keys, bytes
}

// The format of saved state (rule H6). Numbers are little-endian, times are µs.
//
//	1 byte    format: 2
//	1 byte    1: a snapshot, 0: a delta; +2: with times
//	16 bytes  the seed, the same in all pieces
//	24 bytes  with times: newest, arrival, limit; format 1 had no limit
//	entries   of keyset, which are 24 bytes, with times 32
const (
	dedupeFormat   = 2
	dedupeSnapshot = 1
	dedupeTimed    = 2
)

// header is what a piece of state begins with.
func (m *dedupeMemory) header(snapshot bool, limit int64) []byte {
	flags := byte(0)
	if snapshot {
		flags |= dedupeSnapshot
	}
	if m.set.Timed() {
		flags |= dedupeTimed
	}
	b := []byte{dedupeFormat, flags}
	b = binary.LittleEndian.AppendUint64(b, m.seed.a)
	b = binary.LittleEndian.AppendUint64(b, m.seed.b)
	if m.set.Timed() {
		b = binary.LittleEndian.AppendUint64(b, uint64(m.newest))
		b = binary.LittleEndian.AppendUint64(b, uint64(m.arrival))
		b = binary.LittleEndian.AppendUint64(b, uint64(limit))
	}
	return b
}

func (m *dedupeMemory) load(piece []byte, first bool) error {
	timed := m.set.Timed()
	size := 18
	switch {
	case len(piece) < 2:
		return errors.New("it is cut short")
	case piece[0] < 1 || piece[0] > dedupeFormat:
		return fmt.Errorf("it has format %d, and this version of leat reads formats up to %d", piece[0], dedupeFormat)
	case piece[1]&^(dedupeSnapshot|dedupeTimed) != 0:
		return errors.New("it is damaged")
	case piece[1]&dedupeTimed != 0 != timed:
		return errors.New("keys are saved with times only when TTL is set: the TTL was set or taken away since; start with an empty state, or set it back")
	case piece[1]&dedupeSnapshot != 0 && !first:
		return errors.New("a snapshot is not the first")
	}
	if timed {
		size += 8 * (1 + int(piece[0]))
	}
	if len(piece) < size {
		return errors.New("it is cut short")
	}
	seed := keySeed{binary.LittleEndian.Uint64(piece[2:]), binary.LittleEndian.Uint64(piece[10:])}
	if first {
		m.seed = seed
	}
	if m.seed != seed {
		return errors.New("it belongs to another state")
	}
	if timed {
		m.newest = int64(binary.LittleEndian.Uint64(piece[18:]))
		m.arrival = int64(binary.LittleEndian.Uint64(piece[26:]))
		for _, t := range []int64{m.newest, m.arrival} {
			if t != noTime && (t < -farthest*1e6 || t > farthest*1e6+1e6) {
				return errors.New("it has an impossible time")
			}
		}
		if m.least = noTime; piece[0] > 1 {
			m.least = int64(binary.LittleEndian.Uint64(piece[34:]))
		}
		if m.least > m.newest {
			return errors.New("it has an impossible time")
		}
	}
	return m.set.Load(piece[size:])
}

// Restore implements leat.Stateful.
func (d *Dedupe[In, K]) Restore(partition string, saved [][]byte) error {
	d.init()
	d.mu.Lock()
	if old := d.memory[partition]; old != nil {
		old.counts(0, 0)
	}
	delete(d.memory, partition)
	d.mu.Unlock()
	if len(saved) == 0 {
		return nil
	}
	m := newDedupeMemory(d.TTL > 0, &d.size)
	for i, piece := range saved {
		if err := m.load(piece, i == 0); err != nil {
			return fmt.Errorf("stage.Dedupe: piece %d of %d of the state of partition %q: %w", i+1, len(saved), partition, err)
		}
	}
	m.settle()
	m.measure()
	d.mu.Lock()
	d.memory[partition] = m
	d.mu.Unlock()
	return nil
}

// Delta implements leat.Stateful.
func (d *Dedupe[In, K]) Delta(partition string) ([]byte, error) {
	d.init()
	d.mu.Lock()
	m := d.memory[partition]
	d.mu.Unlock()
	if m == nil {
		return nil, nil // no row has come
	}
	if m.saved == m.mark() {
		return nil, nil
	}
	return d.piece(m, false), nil
}

// Snapshot implements leat.Stateful.
func (d *Dedupe[In, K]) Snapshot(partition string) ([]byte, error) {
	m := d.of(partition)
	return d.piece(m, true), nil
}

// piece encodes what is new since the last one, or all there is.
func (d *Dedupe[In, K]) piece(m *dedupeMemory, snapshot bool) []byte {
	from := m.saved.end
	if snapshot {
		from = 0
	}
	limit := m.limit(d.TTL.Microseconds(), d.OutOfOrderness.Microseconds())
	piece := m.set.Append(m.header(snapshot, limit), from, limit)
	m.settle()
	m.measure()
	return piece
}
