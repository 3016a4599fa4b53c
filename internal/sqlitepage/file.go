package sqlitepage

import (
	"fmt"
	"io"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"modernc.org/sqlite/vfs"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"
)

// files is the file system of the images of this process, by their names.
type files struct{ images sync.Map }

var (
	published files
	number    atomic.Int64

	// register makes the file system known to SQLite, for as long as the process lasts.
	register = sync.OnceValues(func() (name string, err error) {
		name, _, err = vfs.New(&published)
		return name, err
	})
)

func publish(m *Image) (name string) {
	name = fmt.Sprintf("leat%d", number.Add(1))
	published.images.Store(name, m)
	return name
}

func withdraw(m *Image) { published.images.Delete(m.file) }

// Attach attaches the image to the connection as schema. The connection must have been
// opened with OpenURI.
func (m *Image) Attach(conn *sqlite.Conn, schema string) error {
	name, err := register()
	if err != nil {
		return err
	}
	// Immutable: no locks, no journal, no looking for changes.
	err = sqlitex.ExecuteTransient(conn, fmt.Sprintf("ATTACH 'file:%s?vfs=%s&immutable=1' AS %s", m.file, name, schema), nil)
	if err != nil {
		return err
	}
	// Every page is read once: there is no use in keeping many.
	return sqlitex.ExecuteTransient(conn, fmt.Sprintf("PRAGMA %s.cache_size=4", schema), nil)
}

// Open implements fs.FS.
func (f *files) Open(name string) (fs.File, error) {
	m, ok := f.images.Load(name)
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &file{image: m.(*Image)}, nil
}

// file reads an image. It implements fs.File and io.Seeker.
type file struct {
	image *Image
	at    int64
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	if whence != io.SeekStart || offset < 0 {
		return f.at, fs.ErrInvalid
	}
	f.at = offset
	return offset, nil
}

// Read reads from one page.
func (f *file) Read(b []byte) (int, error) {
	i, from := f.at/pageSize, f.at%pageSize
	if i >= maxPages {
		return 0, io.EOF
	}
	m := f.image
	p := m.pages[i]
	if p == nil {
		p = &noPage
	}
	n := copy(b, p[from:])
	f.at += int64(n)
	m.reads[i]++
	return n, nil
}

// noPage is what a page is that was never in use.
var noPage page

func (f *file) Stat() (fs.FileInfo, error) { return info(f.image.file), nil }
func (f *file) Close() error               { return nil }

// info is about the file of that name. It implements fs.FileInfo.
type info string

func (i info) Name() string     { return string(i) }
func (info) Size() int64        { return maxPages * pageSize }
func (info) Mode() fs.FileMode  { return 0o444 }
func (info) ModTime() time.Time { return time.Time{} }
func (info) IsDir() bool        { return false }
func (info) Sys() any           { return nil }
