package keyset

// A shard is one part of the index: a table with linear probing of slots. A slot is a word:
// a bit that it is taken, bits of the key, and the number of the entry. 0 is an empty one.
type shard struct {
	slots []uint64
	len   int // slots that are taken
	most  int // len that makes it grow
}

const (
	shardBits  = 8
	shardCount = 1 << shardBits
	numberBits = 33
	tagBits    = 63 - numberBits

	numberMask = 1<<numberBits - 1
	taken      = 1 << 63
)

// shardOf is where k belongs.
func shardOf(k Key) uint8 { return uint8(k.Hi >> (64 - shardBits)) }

// slotOf is what the slot of k holds. Of the key it has the bits behind those of the shard: the
// place in any size of table follows from them, so growing needs nothing else.
func slotOf(k Key, number uint64) uint64 {
	return taken | k.Hi<<shardBits>>(64-tagBits)<<numberBits | number&numberMask
}

// home is where looking for a slot begins. It grows with the key, so that copying a shard into
// a larger one goes through both in order.
func (sh *shard) home(slot uint64) int {
	return int(slot &^ taken >> numberBits * uint64(len(sh.slots)) >> tagBits)
}

// resize makes room for some more than n keys: 53 % of the slots are taken then, and one
// more step is due at 80 %. Steps by half cost two copies of each slot, which are less than
// half of what adding a key costs. Shards of five kinds grow at different times, so that the
// set as a whole is always near the middle.
func (sh *shard) resize(n int, kind uint8) {
	old := sh.slots
	slots := n*15/8 + 8 + int(kind%5)
	sh.slots, sh.most = make([]uint64, slots), slots*4/5
	for _, slot := range old {
		if slot == 0 {
			continue
		}
		at := sh.home(slot)
		for sh.slots[at] != 0 {
			at = sh.after(at)
		}
		sh.slots[at] = slot
	}
}

// remove takes a slot out, and moves those behind it that were there because it was taken.
func (sh *shard) remove(slot uint64) bool {
	at := sh.home(slot)
	for ; sh.slots[at] != slot; at = sh.after(at) {
		if sh.slots[at] == 0 {
			return false
		}
	}
	n := len(sh.slots)
	hole := at
	for at = sh.after(at); sh.slots[at] != 0; at = sh.after(at) {
		if away := at - sh.home(sh.slots[at]); (away+n)%n >= (at-hole+n)%n {
			sh.slots[hole], hole = sh.slots[at], at
		}
	}
	sh.slots[hole] = 0
	sh.len--
	return true
}

// after is where looking for a slot goes on.
func (sh *shard) after(at int) int {
	if at++; at == len(sh.slots) {
		return 0
	}
	return at
}
