package sqlitepage

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"unsafe"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat/internal/row"
)

const (
	pageSize = 1 << 16 // the largest there is
	maxPages = 64      // fixed, because page 1 tells it and is read once

	// Indices of pages; SQLite counts from 1.
	rootPage  = 1
	firstLeaf = 2

	leafKind, leafHeader         = 13, 8
	interiorKind, interiorHeader = 5, 12

	maxColumns = 2000 // SQLite's own default
)

// Table is the name of the table in the image.
const Table = "leat_rows"

type page [pageSize]byte

// Image is a database of one table. It is for one goroutine at a time: the one that
// fills it and runs the statement that reads it.
type Image struct {
	file string // its name
	size uintptr

	steps []step // the last column first
	key   *step  // the INTEGER PRIMARY KEY, or nil: rows are numbered
	slack int    // most bytes of a row besides its texts, see add
	types []byte // of one row, filled from the end
	text  []byte // scratch for a time in a layout of the user's
	pages [maxPages]*page
	used  int             // pages in use
	last  [maxPages]int64 // of each leaf: its largest rowid
	reads [maxPages]int   // since Fill

	// Of the leaf that is being filled.
	leaf  *page
	cells int
	free  int // where its content begins: cells are laid from the end of the page
	rowid int64
}

// New makes an image for rows of size bytes. The columns are in the order of the
// table; key is the index of the one that is the INTEGER PRIMARY KEY, or -1. It must be
// an integer that can't be null, and create, a CREATE TABLE of the name [Table], must
// declare it so.
func New(create string, columns []*row.Column, key int, size uintptr) (*Image, error) {
	if len(columns) == 0 || len(columns) > maxColumns {
		return nil, fmt.Errorf("a table of %d columns", len(columns))
	}
	m := &Image{size: size}
	if err := m.compile(columns, key); err != nil {
		return nil, err
	}
	schema, err := schemaPage(create)
	if err != nil {
		return nil, err
	}
	m.pages[0] = schema
	m.begin()
	m.file = publish(m)
	return m, nil
}

// Close takes the image away. SQLite must have it closed.
func (m *Image) Close() { withdraw(m) }

// schemaPage lets SQLite make page 1 of a database with that table.
func schemaPage(create string) (_ *page, err error) {
	conn, err := sqlite.OpenConn(":memory:", sqlite.OpenReadWrite, sqlite.OpenCreate)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	for _, q := range []string{fmt.Sprintf("PRAGMA page_size=%d", pageSize), create} {
		if err := sqlitex.ExecuteTransient(conn, q, nil); err != nil {
			return nil, err
		}
	}
	b, err := conn.Serialize("main")
	if err != nil {
		return nil, err
	}
	p := new(page)
	copy(p[:], b)
	// All that the layout of the other pages depends on: two pages, the second the
	// table's root; pages of 64 KiB (1 stands for it) without reserved space; no page map.
	if len(b) != 2*pageSize || b[pageSize] != leafKind || binary.BigEndian.Uint16(p[16:]) != 1 || p[20] != 0 || !bytes.Equal(p[52:56], make([]byte, 4)) {
		return nil, errors.New("this SQLite makes another kind of database")
	}
	binary.BigEndian.PutUint32(p[28:], maxPages)
	return p, nil
}

// begin empties the image.
func (m *Image) begin() {
	clear(m.reads[:])
	m.used, m.rowid = firstLeaf, 0
	m.newLeaf()
}

// Fill makes the image hold the first of n rows: as many as there is room for,
// at least one. It is false when there is a row among them that can't be held: a value
// that SQLite can't store, a record of 64 KiB, a key that is not above the one before it.
// The image is then not to be read.
func (m *Image) Fill(rows unsafe.Pointer, n int) (taken int, ok bool) {
	m.begin()
	for taken < n {
		switch m.add(unsafe.Add(rows, uintptr(taken)*m.size)) {
		case added:
			taken++
		case refused:
			return taken, false
		case full:
			switch {
			case m.cells == 0:
				return taken, false // it is the row that is too large
			case m.used == maxPages:
				m.end()
				return taken, true
			}
			m.endLeaf()
			m.newLeaf()
		}
	}
	m.end()
	return taken, true
}

// page returns page i, which is made when it is first needed.
func (m *Image) page(i int) *page {
	if m.pages[i] == nil {
		m.pages[i] = new(page)
	}
	return m.pages[i]
}

func (m *Image) newLeaf() {
	m.leaf = m.page(m.used)
	m.used++
	m.cells, m.free = 0, pageSize
}

func (m *Image) endLeaf() {
	p := m.leaf
	p[0] = leafKind
	p[1], p[2] = 0, 0 // no free blocks
	binary.BigEndian.PutUint16(p[3:], uint16(m.cells))
	binary.BigEndian.PutUint16(p[5:], uint16(m.free))
	p[7] = 0 // no fragments
	m.last[m.used-1] = m.rowid
}

// end closes the last leaf and makes the root.
func (m *Image) end() {
	m.endLeaf()
	if m.used == firstLeaf+1 {
		// A root without cells would be corrupt: the leaf is the root.
		m.pages[rootPage], m.pages[firstLeaf] = m.pages[firstLeaf], m.pages[rootPage]
		m.used = firstLeaf
		return
	}
	p := m.page(rootPage)
	n := m.used - firstLeaf - 1 // cells; the last leaf is in the header
	free := pageSize
	for i := range n {
		leaf := firstLeaf + i
		free = putVarint(p, free, uint64(m.last[leaf]))
		free -= 4
		binary.BigEndian.PutUint32(p[free:], uint32(leaf+1))
		binary.BigEndian.PutUint16(p[interiorHeader+2*i:], uint16(free))
	}
	p[0] = interiorKind
	p[1], p[2] = 0, 0
	binary.BigEndian.PutUint16(p[3:], uint16(n))
	binary.BigEndian.PutUint16(p[5:], uint16(free))
	p[7] = 0
	binary.BigEndian.PutUint32(p[8:], uint32(m.used))
}

// Seen tells whether SQLite has read every page of the rows since Fill, each one once.
func (m *Image) Seen() bool {
	for _, n := range m.reads[rootPage:m.used] {
		if n != 1 {
			return false
		}
	}
	return true
}
