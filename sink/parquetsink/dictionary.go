package parquetsink

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"
)

// dictionary numbers different texts in the order in which they come. It copies
// them.
type dictionary struct {
	plain  []byte   // the texts as PLAIN has them: length, bytes
	starts []uint32 // of each text's length in plain
	hashes []uint32
	table  []uint32 // open addressing: number + 1, or 0
}

var textSeed = maphash.MakeSeed()

const leastTable = 128

func newDictionary() *dictionary { return &dictionary{table: make([]uint32, leastTable)} }

func (d *dictionary) len() int { return len(d.starts) }

// memory is what the dictionary holds.
func (d *dictionary) memory() int {
	return cap(d.plain) + 4*(len(d.table)+cap(d.starts)+cap(d.hashes))
}

// reset forgets all texts.
func (d *dictionary) reset() {
	const most = 1 << 16
	if len(d.table) > most || cap(d.plain) > 4*maxDictionary {
		*d = *newDictionary()
		return
	}
	clear(d.table)
	d.plain, d.starts, d.hashes = d.plain[:0], d.starts[:0], d.hashes[:0]
}

// text gives a text by its number. It shares the dictionary's memory.
func (d *dictionary) text(number uint32) string {
	at := d.starts[number]
	n := binary.LittleEndian.Uint32(d.plain[at:])
	return view(d.plain[at+4 : at+4+n])
}

// number gives a text's number, and whether it is new.
func (d *dictionary) number(s string) (number uint32, isNew bool) {
	hash := uint32(maphash.String(textSeed, s))
	mask := uint32(len(d.table) - 1)
	for i := hash & mask; ; i = (i + 1) & mask {
		n := d.table[i]
		if n == 0 {
			d.table[i] = uint32(len(d.starts)) + 1
			return d.add(s, hash), true
		}
		if d.hashes[n-1] == hash && d.text(n-1) == s {
			return n - 1, false
		}
	}
}

func (d *dictionary) add(s string, hash uint32) uint32 {
	n := uint32(len(d.starts))
	d.starts = append(d.starts, uint32(len(d.plain)))
	d.hashes = append(d.hashes, hash)
	d.plain = appendPlain(d.plain, s)
	if 2*len(d.starts) > len(d.table) {
		d.table = make([]uint32, 2*len(d.table))
		mask := uint32(len(d.table) - 1)
		for k, hash := range d.hashes {
			i := hash & mask
			for d.table[i] != 0 {
				i = (i + 1) & mask
			}
			d.table[i] = uint32(k) + 1
		}
	}
	return n
}

func appendPlain(dst []byte, s string) []byte {
	return append(binary.LittleEndian.AppendUint32(dst, uint32(len(s))), s...)
}

// coder finds the different texts of a column of a batch. What decodes rows mostly
// gives equal texts the same memory, so it looks at where a text lies before it
// looks at the text.
type coder struct {
	slots [512]coderSlot // by address; of this batch only: memory may be used again for another text
	dict  dictionary
	texts []string
	last  uint32 // code of the text that was looked up last
	codes []uint32
	batch uint64
	rest  int // batches to leave alone, because the last one tried was of different texts
}

type coderSlot struct {
	at   uintptr
	n    uint32
	code uint32
}

const (
	coderBytes = 64 << 10 // of different texts in a batch
	coderRest  = 15
)

// begin tells whether the batch deserves a try.
func (c *coder) begin() bool {
	if c.rest > 0 {
		c.rest--
		return false
	}
	clear(c.slots[:])
	if c.dict.table == nil {
		c.dict.table = make([]uint32, leastTable)
	}
	c.dict.reset()
	c.texts, c.last = c.texts[:0], 0
	return true
}

// giveUp tells, after so many rows, whether there are too many different texts.
func (c *coder) giveUp(rows int) bool {
	if 2*len(c.texts) <= rows+64 && len(c.dict.plain) <= coderBytes {
		return false
	}
	// Until the next try, it keeps no batch and no copy of one.
	c.rest = coderRest
	clear(c.texts)
	c.texts = c.texts[:0]
	c.dict.reset()
	return true
}

// addressOf is where a text lies, plus 1: never 0, as in an empty slot.
func addressOf(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) + 1 }

func slotOf(at uintptr, n int) uintptr {
	return (at>>3 ^ at>>12 ^ uintptr(n)) % uintptr(len(coder{}.slots))
}

// code numbers a text that lies at an address. New ones are at the end of c.texts.
func (c *coder) code(s string, at uintptr) uint32 {
	slot := &c.slots[slotOf(at, len(s))]
	if slot.at == at && slot.n == uint32(len(s)) {
		return slot.code
	}
	if len(c.texts) == 0 || s != c.texts[c.last] { // else they are sorted, each in memory of its own
		var isNew bool
		if c.last, isNew = c.dict.number(s); isNew {
			c.texts = append(c.texts, s)
		}
	}
	*slot = coderSlot{at, uint32(len(s)), c.last}
	return c.last
}
