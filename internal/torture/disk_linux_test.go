package torture

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// recorder is a disk that keeps a log of what was written to it, and of what was flushed, so
// that it can be had as it is after a power cut at any moment. It is one file of a FUSE
// file system, which a loop device makes a disk of: this kernel need not have device mapper.
type recorder struct {
	fuse *os.File
	gone chan struct{}

	mu   sync.Mutex
	now  []byte // the disk
	base []byte // as it was when recording began
	log  []diskEvent
	fail int  // if not 0, the n-th write from now on fails
	rows bool // counted are only writes that rows, letters or the ledger are in
	hurt bool // it did
}

// diskEvent is a write, or a flush: everything before it is on the disk for good.
type diskEvent struct {
	at   int64
	data []byte // nil: a flush
}

// follows tells whether a write at an offset goes on with the one before. The loop device may
// have made two writes of a request, and takes half a request for a whole one: only
// the first half can fail so that anybody hears of it.
func (r *recorder) follows(at int64) bool {
	n := len(r.log)
	return n > 0 && r.log[n-1].data != nil && r.log[n-1].at+int64(len(r.log[n-1].data)) == at
}

// at is how many events there were.
func (r *recorder) at() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.log)
}

// block is what a disk writes whole or not at all.
const block = 4096

// cut is the disk after a power cut behind the first n events: all that was flushed is there,
// and of what was written since then each block or not, by chance.
func (r *recorder) cut(n int, rng *rand.Rand) []byte {
	disk := append([]byte(nil), r.base...)
	flushed := n
	for flushed > 0 && r.log[flushed-1].data != nil {
		flushed--
	}
	keep := []float64{0, 0.5, 0.9, 1}[rng.IntN(4)]
	for i, e := range r.log[:n] {
		for done := 0; done < len(e.data); done += block {
			part := e.data[done:min(done+block, len(e.data))]
			if i < flushed || rng.Float64() < keep {
				copy(disk[e.at+int64(done):], part)
			}
		}
	}
	return disk
}

// newRecorder serves a disk with this content as the file at path.
func newRecorder(t *testing.T, path string, content []byte) *recorder {
	t.Helper()
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip("no FUSE here: ", err)
	}
	r := &recorder{fuse: os.NewFile(uintptr(fd), "fuse"), now: content, base: append([]byte(nil), content...), gone: make(chan struct{})}
	options := fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0", fd)
	if err := unix.Mount("leat", path, "fuse.leat", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Skip("FUSE can't be mounted here: ", err)
	}
	go func() {
		defer close(r.gone)
		r.serve()
	}()
	t.Cleanup(func() {
		if err := unix.Unmount(path, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", path, err)
		}
		<-r.gone
		_ = r.fuse.Close()
	})
	return r
}

// serve answers the kernel (its include/uapi/linux/fuse.h) until the file system is unmounted.
func (r *recorder) serve() {
	const (
		forget, getattr, setattr, open, read, write, statfs, release, fsync, flush, initialize, interrupt = 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 36
		mostWrite                                                                                         = 1 << 20
	)
	le := binary.LittleEndian
	in := make([]byte, mostWrite+4096)
	for {
		n, err := unix.Read(int(r.fuse.Fd()), in)
		if err == unix.EINTR || err == unix.EAGAIN || err == unix.ENOENT {
			continue
		}
		if err != nil {
			return
		}
		opcode, unique, body := le.Uint32(in[4:]), le.Uint64(in[8:]), in[40:n]
		var out []byte
		errno := unix.Errno(0)
		switch opcode {
		case forget, interrupt:
			continue
		case initialize:
			out = make([]byte, 64)
			le.PutUint32(out, 7)
			le.PutUint32(out[4:], 31)
			le.PutUint32(out[8:], le.Uint32(body[8:])) // read ahead as wanted
			// FUSE_BIG_WRITES and FUSE_MAX_PAGES: a request of the disk is one write, as far as may be.
			le.PutUint32(out[12:], 1<<5|1<<22)
			le.PutUint16(out[28:], mostWrite/4096)
			le.PutUint16(out[16:], 12)
			le.PutUint16(out[18:], 9)
			le.PutUint32(out[20:], mostWrite)
			le.PutUint32(out[24:], 1)
		case getattr, setattr:
			out = make([]byte, 16+88)
			le.PutUint64(out, 1<<30) // valid for long
			le.PutUint64(out[16:], 1)
			le.PutUint64(out[24:], uint64(len(r.now)))
			le.PutUint64(out[32:], uint64(len(r.now)/512))
			le.PutUint32(out[16+60:], unix.S_IFREG|0o600)
			le.PutUint32(out[16+64:], 1) // one name
			le.PutUint32(out[16+80:], block)
		case open:
			out = make([]byte, 16)
		case read:
			from, size := le.Uint64(body[8:]), uint64(le.Uint32(body[16:]))
			r.mu.Lock()
			from = min(from, uint64(len(r.now)))
			out = append(out, r.now[from:min(from+size, uint64(len(r.now)))]...)
			r.mu.Unlock()
		case write:
			at, data := int64(le.Uint64(body[8:])), body[40:40+le.Uint32(body[16:])]
			r.mu.Lock()
			if r.fail > 0 && (!r.rows || holdsRows(data)) && !r.follows(at) {
				r.fail--
				if r.fail == 0 {
					r.hurt, errno = true, unix.EIO
				}
			}
			if errno == 0 {
				copy(r.now[at:], data)
				r.log = append(r.log, diskEvent{at, append([]byte(nil), data...)})
			}
			r.mu.Unlock()
			out = make([]byte, 8)
			le.PutUint32(out, uint32(len(data)))
		case fsync:
			r.mu.Lock()
			r.log = append(r.log, diskEvent{})
			r.mu.Unlock()
		case statfs:
			out = make([]byte, 80)
		case flush, release:
		default:
			errno = unix.ENOSYS
		}
		reply := make([]byte, 16, 16+len(out))
		if errno != 0 {
			out = nil
		}
		le.PutUint32(reply, uint32(16+len(out)))
		le.PutUint32(reply[4:], uint32(-int32(errno)))
		le.PutUint64(reply[8:], unique)
		_, _ = unix.Write(int(r.fuse.Fd()), append(reply, out...))
	}
}

// holdsRows tells writes of files with rows, letters or the ledger from ext4's own.
func holdsRows(data []byte) bool {
	for _, s := range []string{"xxxxxxxx", "PAR1", `"event":`} {
		if bytes.Contains(data, []byte(s)) {
			return true
		}
	}
	return false
}

// loop makes a disk of a file; the function takes it away.
func loop(t *testing.T, file string) (device string, detach func()) {
	t.Helper()
	out, err := exec.Command("losetup", "--find", "--show", file).CombinedOutput()
	require.NoErrorf(t, err, "losetup: %s", out)
	device = strings.TrimSpace(string(out))
	return device, func() {
		if out, err := exec.Command("losetup", "--detach", device).CombinedOutput(); err != nil {
			t.Errorf("losetup --detach %s: %v: %s", device, err, out)
		}
	}
}

// onDisk mounts the ext4 in a file, calls f with the folder, and unmounts it.
func onDisk(t *testing.T, file string, f func(dir string)) {
	t.Helper()
	require.NoError(t, tryDisk(t, file, f), "mount")
}

// tryDisk is onDisk that tells when the file system can't be mounted.
func tryDisk(t *testing.T, file string, f func(dir string)) error {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Mkdir(dir, 0o700))
	device, detach := loop(t, file)
	defer detach()
	if out, err := exec.Command("mount", "-t", "ext4", "-o", "noatime", device, dir).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	}()
	f(dir)
	return nil
}
