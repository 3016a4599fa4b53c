package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// verify reads the structure of a whole bbolt file (format 2) with bounds on everything and tells what is wrong with it.
//
// bbolt trusts its file: what a damaged page makes it do ranges from a panic over a fault in mapped memory, an endless
// recursion or an allocation of terabytes (none of which can be recovered from) to the worst, silence: a leaf page that has
// lost its last entry, a free list that names a page in use, a damaged meta page that makes it fall back to the checkpoint
// before. bbolt's own Tx.Check works on mapped memory and in a goroutine of its own, where a fault ends the process. So
// this runs first, on a plain file; bbolt sees the file only if it passes. It reads no values: records have checksums.
//
// The caller holds a lock against writers.
func verify(f io.ReaderAt, size int64) error {
	m0, err := readMeta(f, 0)
	if err != nil {
		return err
	}
	m1, err := readMeta(f, int64(m0.pageSize))
	if err != nil {
		return err
	}
	if m0.pageSize != m1.pageSize {
		return fmt.Errorf("its meta pages disagree on the page size: %d and %d", m0.pageSize, m1.pageSize)
	}
	m := m0
	if m1.txid > m0.txid {
		m = m1
	}
	// A file never ends before its high-water mark: bbolt makes it longer before it writes a commit.
	if m.pgid < 2 || m.pgid > uint64(size)/uint64(m.pageSize) {
		return fmt.Errorf("it is cut off: %d bytes, %d pages of %d bytes expected", size, m.pgid, m.pageSize)
	}
	v := &verifier{f: f, meta: m, used: make([]bool, m.pgid)}
	v.used[0], v.used[1] = true, true
	if err := v.tree(m.root, nil, nil); err != nil {
		return err
	}
	if err := v.freelist(m.freelist); err != nil {
		return err
	}
	for id, used := range v.used {
		if !used {
			return fmt.Errorf("page %d is neither in use nor free", id)
		}
	}
	return nil
}

const (
	pageHeader   = 16
	elementSize  = 16
	branchFlag   = 0x01
	leafFlag     = 0x02
	metaFlag     = 0x04
	freelistFlag = 0x10
	bucketFlag   = 0x01

	boltMagic   = 0xED0CDAED
	boltVersion = 2
	metaSize    = 64
	maxKey      = 32768
)

type boltMeta struct {
	pageSize       uint32
	root, freelist uint64 // the pages where these begin
	pgid           uint64 // how many pages are in use or free: the high-water mark
	txid           uint64
}

// readMeta reads a meta page. bbolt makes do with one good meta page of two; here both must be good. A meta page is 80
// bytes at the start of a page, so a disk that writes single sectors whole never leaves half of one; a bad one means
// damage, and bbolt's answer to it would be to step back to the checkpoint before without a word.
func readMeta(f io.ReaderAt, off int64) (boltMeta, error) {
	buf := make([]byte, pageHeader+metaSize)
	if _, err := f.ReadAt(buf, off); err != nil {
		if errors.Is(err, io.EOF) {
			return boltMeta{}, fmt.Errorf("it is cut off before the end of the meta page at byte %d", off)
		}
		return boltMeta{}, err
	}
	ne, b := binary.NativeEndian, buf[pageHeader:]
	h := fnv.New64a()
	_, _ = h.Write(b[:metaSize-8])
	m := boltMeta{
		pageSize: ne.Uint32(b[8:]),
		root:     ne.Uint64(b[16:]),
		freelist: ne.Uint64(b[32:]),
		pgid:     ne.Uint64(b[40:]),
		txid:     ne.Uint64(b[48:]),
	}
	switch {
	case ne.Uint32(b[0:]) != boltMagic:
		return m, fmt.Errorf("the meta page at byte %d is not one of a bbolt file", off)
	case ne.Uint64(b[metaSize-8:]) != h.Sum64():
		return m, fmt.Errorf("the checksum of the meta page at byte %d does not match", off)
	case ne.Uint32(b[4:]) != boltVersion:
		return m, fmt.Errorf("it has version %d of bbolt's format, this program knows %d", ne.Uint32(b[4:]), boltVersion)
	case ne.Uint16(buf[8:]) != metaFlag:
		return m, fmt.Errorf("the page at byte %d is not marked as a meta page", off)
	case m.pageSize < 512 || m.pageSize > 1<<24 || m.pageSize&(m.pageSize-1) != 0:
		return m, fmt.Errorf("the meta page at byte %d has the page size %d", off, m.pageSize)
	case off > 0 && ne.Uint64(buf) != 1, off == 0 && ne.Uint64(buf) != 0:
		return m, fmt.Errorf("the meta page at byte %d says that it is page %d", off, ne.Uint64(buf))
	}
	return m, nil
}

type verifier struct {
	f    io.ReaderAt
	meta boltMeta
	used []bool // by page
}

// page is a run of bytes that a page, with its overflow pages, or an inline bucket occupies.
type page struct {
	id    uint64
	flags uint16
	count int

	f     io.ReaderAt
	off   int64
	size  int64
	first []byte // its beginning, read already
}

// at returns n bytes at pos, or an error if the page is not that long. Only what is asked for is read.
func (p *page) at(pos, n int64) ([]byte, error) {
	if pos < 0 || n < 0 || pos > p.size || n > p.size-pos {
		return nil, fmt.Errorf("page %d is damaged: something in it ends beyond it (byte %d of %d)", p.id, pos+n, p.size)
	}
	if pos+n <= int64(len(p.first)) {
		return p.first[pos : pos+n], nil
	}
	b := make([]byte, n)
	if _, err := p.f.ReadAt(b, p.off+pos); err != nil {
		return nil, fmt.Errorf("page %d: %w", p.id, err)
	}
	return b, nil
}

// open reads the beginning of page id and marks the page and its overflow pages as used. A page that is used twice is an
// error; so the walk ends, whatever the pages point to.
func (v *verifier) open(id uint64) (*page, error) {
	if id < 2 || id >= v.meta.pgid {
		return nil, fmt.Errorf("page %d is referred to and the file has %d", id, v.meta.pgid)
	}
	ps := int64(v.meta.pageSize)
	p := &page{id: id, f: v.f, off: int64(id) * ps, size: ps, first: make([]byte, ps)}
	if _, err := v.f.ReadAt(p.first, p.off); err != nil {
		return nil, fmt.Errorf("page %d: %w", id, err)
	}
	ne := binary.NativeEndian
	p.flags, p.count = ne.Uint16(p.first[8:]), int(ne.Uint16(p.first[10:]))
	if got := ne.Uint64(p.first); got != id {
		return nil, fmt.Errorf("page %d is damaged: it says that it is page %d", id, got)
	}
	overflow := uint64(ne.Uint32(p.first[12:]))
	if overflow >= v.meta.pgid-id {
		return nil, fmt.Errorf("page %d is damaged: it has %d overflow pages and the file has %d pages", id, overflow, v.meta.pgid)
	}
	for i := id; i <= id+overflow; i++ {
		if err := v.mark(i); err != nil {
			return nil, err
		}
	}
	p.size = int64(overflow+1) * ps
	return p, nil
}

func (v *verifier) mark(id uint64) error {
	if v.used[id] {
		return fmt.Errorf("page %d is used twice", id)
	}
	v.used[id] = true
	return nil
}

// tree walks the pages under id, whose keys are at least lo and, unless hi is nil, less than hi.
func (v *verifier) tree(id uint64, lo, hi []byte) error {
	p, err := v.open(id)
	if err != nil {
		return err
	}
	switch p.flags {
	case leafFlag:
		return v.leaf(p, lo, hi, false)
	case branchFlag:
		return v.branch(p, lo, hi)
	}
	return fmt.Errorf("page %d is damaged: it has the type %#x", id, p.flags)
}

func (v *verifier) branch(p *page, lo, hi []byte) error {
	elems, err := p.at(pageHeader, int64(p.count)*elementSize)
	if err != nil {
		return err
	}
	if p.count == 0 {
		return fmt.Errorf("page %d is damaged: it is a branch without children", p.id)
	}
	ne := binary.NativeEndian
	keys, children := make([][]byte, p.count), make([]uint64, p.count)
	for i := range p.count {
		e := elems[i*elementSize:]
		if keys[i], err = p.key(i, ne.Uint32(e), ne.Uint32(e[4:])); err != nil {
			return err
		}
		children[i] = ne.Uint64(e[8:])
	}
	if err := p.ordered(keys, lo, hi); err != nil {
		return err
	}
	for i, child := range children {
		end := hi
		if i+1 < len(keys) {
			end = keys[i+1]
		}
		if err := v.tree(child, keys[i], end); err != nil {
			return err
		}
	}
	return nil
}

func (v *verifier) leaf(p *page, lo, hi []byte, inline bool) error {
	elems, err := p.at(pageHeader, int64(p.count)*elementSize)
	if err != nil {
		return err
	}
	ne := binary.NativeEndian
	keys := make([][]byte, p.count)
	var buckets [][]byte
	for i := range p.count {
		e := elems[i*elementSize:]
		flags, pos, ksize, vsize := ne.Uint32(e), ne.Uint32(e[4:]), ne.Uint32(e[8:]), ne.Uint32(e[12:])
		if keys[i], err = p.key(i, pos, ksize); err != nil {
			return err
		}
		start := pageHeader + int64(i)*elementSize + int64(pos) + int64(ksize)
		switch {
		case flags == bucketFlag && !inline:
			value, err := p.at(start, int64(vsize))
			if err != nil {
				return err
			}
			buckets = append(buckets, value)
		case flags == 0:
			if start+int64(vsize) > p.size {
				return fmt.Errorf("page %d is damaged: the value of entry %d ends beyond it", p.id, i)
			}
		default:
			return fmt.Errorf("page %d is damaged: entry %d has the flags %#x", p.id, i, flags)
		}
	}
	if err := p.ordered(keys, lo, hi); err != nil {
		return err
	}
	for _, b := range buckets {
		if err := v.bucket(p.id, b); err != nil {
			return err
		}
	}
	return nil
}

// bucket checks what the entry of a bucket holds: the page where its tree begins, or, for a small one, the leaf itself.
func (v *verifier) bucket(id uint64, value []byte) error {
	const header = 16
	if len(value) < header {
		return fmt.Errorf("page %d is damaged: the entry of a bucket has %d bytes", id, len(value))
	}
	ne := binary.NativeEndian
	if root := ne.Uint64(value); root != 0 {
		return v.tree(root, nil, nil)
	}
	inline := value[header:]
	if len(inline) < pageHeader || ne.Uint16(inline[8:]) != leafFlag || ne.Uint64(inline) != 0 {
		return fmt.Errorf("page %d is damaged: a bucket inside it is not a leaf", id)
	}
	return v.leaf(&page{id: id, count: int(ne.Uint16(inline[10:])), size: int64(len(inline)), first: inline}, nil, nil, true)
}

// key returns the key of element i: it starts pos bytes after the element's own beginning.
func (p *page) key(i int, pos, size uint32) ([]byte, error) {
	if size == 0 || size > maxKey || int64(pos) < int64(p.count-i)*elementSize {
		return nil, fmt.Errorf("page %d is damaged: the key of entry %d has %d bytes at %d", p.id, i, size, pos)
	}
	return p.at(pageHeader+int64(i)*elementSize+int64(pos), int64(size))
}

func (p *page) ordered(keys [][]byte, lo, hi []byte) error {
	for i, k := range keys {
		if i == 0 && bytes.Compare(k, lo) < 0 || i > 0 && bytes.Compare(k, keys[i-1]) <= 0 || hi != nil && bytes.Compare(k, hi) >= 0 {
			return fmt.Errorf("page %d is damaged: the key of entry %d is out of order", p.id, i)
		}
	}
	return nil
}

func (v *verifier) freelist(id uint64) error {
	p, err := v.open(id) // a file without a free list (id ^0) is not one that this package writes
	if err != nil {
		return fmt.Errorf("free list: %w", err)
	}
	if p.flags != freelistFlag {
		return fmt.Errorf("page %d is damaged: it has the type %#x and should be the free list", id, p.flags)
	}
	ne := binary.NativeEndian
	start, count := int64(pageHeader), uint64(p.count)
	if count == 0xFFFF { // more than fit into 16 bits: the first element is the count
		b, err := p.at(start, 8)
		if err != nil {
			return err
		}
		start, count = start+8, ne.Uint64(b)
	}
	if count > v.meta.pgid {
		return fmt.Errorf("page %d is damaged: the free list has %d pages and the file %d", id, count, v.meta.pgid)
	}
	ids, err := p.at(start, int64(count)*8)
	if err != nil {
		return err
	}
	for ; len(ids) > 0; ids = ids[8:] {
		free := ne.Uint64(ids)
		if free < 2 || free >= v.meta.pgid {
			return fmt.Errorf("page %d is damaged: the free list names page %d and the file has %d", id, free, v.meta.pgid)
		}
		if err := v.mark(free); err != nil {
			return err
		}
	}
	return nil
}
