package torture

import (
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/killtest"
)

// rules A3, B3, D3, D6, E1, F1: the power of a disk is cut while a pipeline writes to it. A
// pipeline runs on an ext4 of which each block written and each flush are recorded,
// with some kill -9 on the way. From that, disks are made as a power cut leaves them: what
// was flushed is there, what was written later is there or not, block by block. ext4
// recovers; what was acknowledged before the cut must be there, and after another run all
// must be, once. With sqlitesink.Normal what was acknowledged may be missing at first: it is
// read again.
func TestPowerCut(t *testing.T) {
	killtest.NeedRoot(t, "mount", "umount", "losetup", "mkfs.ext4")
	if testing.Short() {
		t.Skip("runs without -short")
	}
	cuts, files, rows := 5, 6, 2000
	if os.Getenv("LEAT_LONG") == "1" {
		cuts, files, rows = number("LEAT_CUTS", 60), 8, 5000
	}
	rng := rand.New(rand.NewPCG(seed(t), 0))
	table := newTable("sink", "mode", "written MB", "flushes", "cuts", "acks checked", "acked and missing", "rows", "lost", "twice", "seconds")
	for _, snk := range sinks {
		for _, normal := range []bool{false, true} {
			if normal && snk.name != "sqlitesink" {
				continue
			}
			began := time.Now()
			set := quick(snk.name)
			set.ChunkBytes, set.RollRows, set.Checkpoint, set.Normal = 8<<10, 300, 4*time.Millisecond, normal
			mode := map[bool]string{true: "normal", false: "full"}[normal]
			t.Run(snk.name+" "+mode, func(t *testing.T) {
				p := record(t, set, files, rows, rng)
				c := cutRow{}
				for range cuts {
					p.cutPower(t, rng, &c)
				}
				written := 0
				for _, e := range p.disk.log {
					written += len(e.data)
				}
				table.add(snk.name, mode, written>>20, p.flushes(0, len(p.disk.log)), cuts, c.acks, c.missing, c.rows, c.lost, c.twice, int(time.Since(began).Seconds()+0.5))
			})
		}
	}
	table.log(t, "power cuts")
}

type cutRow struct {
	acks, missing int
	damage
}

// newRecording makes a disk with the input of a pipeline.
func newRecording(t *testing.T, set settings, files, rows int) *recording {
	t.Helper()
	dir := inMemory(t)
	image := filepath.Join(dir, "image")
	require.NoError(t, os.WriteFile(image, nil, 0o600))
	require.NoError(t, os.Truncate(image, 64<<20))
	out, err := exec.Command("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image).CombinedOutput()
	require.NoErrorf(t, err, "mkfs.ext4: %s", out)
	p := &recording{file: filepath.Join(dir, "recorded")}
	onDisk(t, image, func(dir string) { p.world = fill(t, filepath.Join(dir, "w"), set, files, rows, 40) })
	content, err := os.ReadFile(image)
	require.NoError(t, err)
	p.disk = newRecorder(t, p.file, content)
	return p
}

// recording is a run of a pipeline and what its disk was told meanwhile.
type recording struct {
	file  string
	world *world // as on the disk that was recorded
	disk  *recorder
	acks  []ack
	begun int // events before the pipeline ran
}

// ack says that everything up to a row is durable, said when the log had so many events.
type ack struct {
	row int64
	at  int
}

func (p *recording) flushes(from, to int) (n int) {
	for _, e := range p.disk.log[from:to] {
		if e.data == nil {
			n++
		}
	}
	return n
}

// record runs a pipeline to its end on a recorded disk, with two kills on the way.
func record(t *testing.T, set settings, files, rows int, rng *rand.Rand) *recording {
	t.Helper()
	p := newRecording(t, set, files, rows)
	onDisk(t, p.file, func(dir string) {
		w := p.on(dir)
		p.begun = p.disk.at()
		for life := 0; ; life++ {
			l := w.life()
			acked := 0
			l.Line = func(line string, kill func()) {
				var row int64
				if _, err := fmt.Sscanf(line, "%d", &row); err != nil {
					return
				}
				p.acks = append(p.acks, ack{row, p.disk.at()})
				if acked++; life < 2 && acked > 3+rng.IntN(10) {
					kill()
				}
			}
			e := l.Run(t)
			if !e.Killed {
				require.Equal(t, 0, e.Code, e.Stderr)
				break
			}
		}
		w.whole().require(t, "without a power cut")
	})
	require.NotEmpty(t, p.acks)
	t.Logf("%d acks, %d events, %d flushes", len(p.acks), len(p.disk.log), p.flushes(p.begun, len(p.disk.log)))
	return p
}

// on is the world when its disk is mounted at dir.
func (p *recording) on(dir string) *world {
	w := *p.world
	w.folders = foldersIn(filepath.Join(dir, "w"))
	return &w
}

// looked compares in a copy, since looking may be a recovery too.
func (p *recording) looked(t *testing.T, w *world, upTo int64) damage {
	t.Helper()
	looked := *w
	dir := inMemory(t)
	defer os.RemoveAll(dir)
	looked.folders = foldersIn(dir)
	copyTree(t, w.out, looked.out)
	copyTree(t, w.dead, looked.dead)
	return looked.compare(upTo)
}

// cutPower makes a disk as a power cut leaves it, and goes on with it.
func (p *recording) cutPower(t *testing.T, rng *rand.Rand, row *cutRow) {
	t.Helper()
	at := p.begun + rng.IntN(len(p.disk.log)-p.begun) + 1
	acked := int64(0)
	for _, a := range p.acks {
		if a.at <= at {
			acked = max(acked, a.row)
		}
	}
	dir := inMemory(t)
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "image")
	require.NoError(t, os.WriteFile(image, p.disk.cut(at, rng), 0o600))
	when := fmt.Sprintf("a power cut after %d of %d writes and flushes", at, len(p.disk.log))
	onDisk(t, image, func(disk string) {
		w := p.on(disk)
		d := p.looked(t, w, acked)
		row.missing += d.lost
		if acked > 0 {
			row.acks++
		}
		if p.world.Normal {
			d.lost = 0
		}
		d.require(t, fmt.Sprintf("rule A3: %s, of what was acknowledged up to row %d", when, acked))
		d = w.finish(t, when)
		row.rows, row.lost, row.twice = row.rows+d.rows, row.lost+d.lost, row.twice+d.twice
	})
}

// rules A3, B3, E8, F1: one block can't be written, for real, and then the power is cut. ext4 tells
// by an error of fsync, and takes the block for written from then on: whoever asks a
// second time is told that all is well, reads from memory what the disk does not have,
// and loses it. It may also be a block of ext4's own journal; then the whole disk can't
// be written any more.
func TestBadBlock(t *testing.T) {
	killtest.NeedRoot(t, "mount", "umount", "losetup", "mkfs.ext4")
	if testing.Short() {
		t.Skip("runs without -short")
	}
	blocks := 2
	if os.Getenv("LEAT_LONG") == "1" {
		blocks = number("LEAT_CUTS", 60) * 2 / 3
	}
	rng := rand.New(rand.NewPCG(seed(t), 0))
	table := newTable("sink", "blocks of", "bad", "no matter", "went on", "stopped, next start went on", "disk read-only", "disk destroyed", "rows", "lost", "twice")
	for _, snk := range sinks {
		for _, inRows := range []bool{true, false} {
			if !inRows && blocks < 10 { // mostly ext4 gives up, which tells less
				continue
			}
			of := map[bool]string{true: "rows", false: "any"}[inRows]
			t.Run(snk.name+" "+of, func(t *testing.T) {
				b := badBlocks{settings: quick(snk.name), rows: inRows}
				b.most = b.writes(t)
				for range blocks {
					b.one(t, rng)
				}
				table.add(snk.name, of, b.met, b.calm, b.alone, b.next, b.readOnly, b.destroyed, b.faultRow.rows, b.lost, b.twice)
			})
		}
	}
	table.log(t, "bad blocks")
}

type badBlocks struct {
	settings
	faultRow
	rows                bool // only blocks with rows
	most                int  // writes that there are
	readOnly, destroyed int
}

// writes counts the writes that may fail.
func (b *badBlocks) writes(t *testing.T) int {
	p := newRecording(t, b.settings, 4, 100)
	onDisk(t, p.file, func(dir string) {
		p.begun = p.disk.at()
		p.on(dir).finish(t, "without a fault")
	})
	n := 0
	for _, e := range p.disk.log[p.begun:] {
		if e.data != nil && (!b.rows || holdsRows(e.data)) {
			n++
		}
	}
	return max(n, 1)
}

// one has one write fail, and then cuts the power.
func (b *badBlocks) one(t *testing.T, rng *rand.Rand) {
	p := newRecording(t, b.settings, 4, 100)
	nth := 1 + rng.IntN(b.most)
	var e killtest.End
	retried, whole, at := false, false, 0
	onDisk(t, p.file, func(dir string) {
		p.disk.mu.Lock()
		p.disk.fail, p.disk.rows = nth, b.rows
		p.disk.mu.Unlock()
		l := p.on(dir).life()
		l.Line = func(line string, _ func()) { retried = retried || line == "retry" || line == "rewind" }
		e = l.Run(t)
		if whole = e.Code == 0; !whole {
			// The next start finds in memory what the first could not write.
			whole = p.on(dir).life().Run(t).Code == 0
		}
		at = p.disk.at() // here the power is cut
		if os.WriteFile(filepath.Join(dir, "probe"), nil, 0o600) != nil {
			b.readOnly++
		}
	})
	p.disk.mu.Lock()
	hurt := p.disk.hurt
	p.disk.mu.Unlock()
	if !hurt {
		return
	}
	when := fmt.Sprintf("%s, write %d of about %d failed (with rows: %v)", b.Sink, nth, b.most, b.rows)
	b.met++
	switch {
	case e.Code == 0 && retried:
		b.alone++
	case e.Code == 0:
		b.calm++
	default:
		require.Equal(t, 1, e.Code, "%s: %s", when, e.Stderr)
		require.Regexp(t, "input/output error|read-only file system|disk I/O error|readonly database|unable to open", e.Stderr, when)
		b.next++
	}
	image := filepath.Join(inMemory(t), "image")
	defer os.Remove(image)
	require.NoError(t, os.WriteFile(image, p.disk.cut(at, rng), 0o600))
	if tryDisk(t, image, func(dir string) {
		if whole {
			p.looked(t, p.on(dir), 1<<62).require(t, "rule A3: "+when+", the pipeline came to its end, and the power was cut; the first life: "+e.Stderr)
		}
		d := p.on(dir).finish(t, when+"; the first life: "+e.Stderr)
		b.faultRow.rows, b.lost, b.twice = b.faultRow.rows+d.rows, b.lost+d.lost, b.twice+d.twice
	}) != nil {
		b.destroyed++ // ext4 had lost a block of its own: a disk for e2fsck, not for us
	}
}
