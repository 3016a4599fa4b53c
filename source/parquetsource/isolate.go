package parquetsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leatgo/leat/internal/filesource"
	"github.com/leatgo/leat/internal/parquetread"
)

// Isolate makes a process of its own decode each file, one after the other, which can use
// so much and no more. Its zero value is off.
type Isolate struct {
	// Memory is how many bytes that process may allocate, beside what it has when it
	// starts; 128 MiB at least. A file that needs more is failed. It must have room for
	// a page of each column that is read, twice.
	Memory int64

	// Timeout is how long that process may take for the next rows, or for the footer.
	// Then it is killed, and reading the file has failed once (see Config.Attempts).
	// Defaults to 1 min.
	Timeout time.Duration
}

const (
	minIsolated    = 128 << 20
	defaultTimeout = time.Minute

	// childVar makes a process decode a file for its parent, and tells it how much memory
	// it may use.
	childVar = "LEAT_PARQUETSOURCE_DECODE"
)

func (i *Isolate) on() bool { return i.Memory != 0 }

func (i *Isolate) faults() (faults []string) {
	if *i == (Isolate{}) {
		return nil
	}
	if runtime.GOOS != "linux" {
		faults = append(faults, "Isolate works on Linux only: elsewhere leave it out, and give no untrusted files to this process")
	}
	if i.Memory < minIsolated {
		faults = append(faults, fmt.Sprintf("Isolate.Memory is %d: a process needs %d bytes at least", i.Memory, minIsolated))
	}
	if i.Timeout < 0 {
		faults = append(faults, fmt.Sprintf("Isolate.Timeout %v is negative", i.Timeout))
	}
	return faults
}

// init takes the process over if it was started to decode a file: what runs then is this,
// before main, whatever program it is. A function for users to call first in main would be
// forgotten, and then a file would start their whole program again. The child has no
// environment, no files and no arguments: it knows nothing but the bytes it asks for.
func init() {
	memory := os.Getenv(childVar)
	if memory == "" {
		return
	}
	os.Clearenv()
	n, err := strconv.ParseInt(memory, 10, 64)
	if err == nil {
		debug.SetMemoryLimit(n / 4 * 3)
		err = limitMemory(n)
	}
	if err == nil {
		err = parquetread.ServeChild(context.Background(), os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(3)
	}
	os.Exit(0)
}

// child is a process that decodes a file.
type child struct {
	cmd     *exec.Cmd
	to      io.Closer
	from    io.Closer
	stderr  head
	exited  chan struct{}
	err     error // of Wait, when exited is closed
	hung    atomic.Bool
	isolate *Isolate
}

// head keeps the beginning of what is written to it.
type head struct {
	mu sync.Mutex
	b  bytes.Buffer
}

const maxHead = 8 << 10

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b.Write(p[:min(len(p), maxHead-min(h.b.Len(), maxHead))])
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

// onChild, if set, is told of each process that is started, and whether it is to read the
// rows or only the footer: for tests.
var onChild atomic.Pointer[func(reads bool, p *os.Process)]

func start(i *Isolate, reads bool) (c *child, from io.Reader, to io.Writer, err error) {
	c = &child{isolate: i, exited: make(chan struct{})}
	c.cmd = exec.Command("/proc/self/exe") // also when the program's file was replaced
	c.cmd.Env = []string{childVar + "=" + strconv.FormatInt(i.Memory, 10)}
	c.cmd.Dir = "/"
	c.cmd.Stderr = &c.stderr
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, nil, nil, err
	}
	// Not StdoutPipe, which Wait closes: what was written is read to its end.
	stdout, w, err := os.Pipe()
	if err != nil {
		return nil, nil, nil, errors.Join(err, stdin.Close())
	}
	c.cmd.Stdout = w
	err = c.cmd.Start()
	if cerr := w.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, nil, nil, errors.Join(fmt.Errorf("start the process that decodes files: %w", err), stdin.Close(), stdout.Close())
	}
	c.to, c.from = stdin, stdout
	go func() {
		c.err = c.cmd.Wait()
		close(c.exited)
	}()
	if tell := onChild.Load(); tell != nil {
		(*tell)(reads, c.cmd.Process)
	}
	return c, stdout, stdin, nil
}

// kill ends the process at once.
func (c *child) kill() { _ = c.cmd.Process.Kill() }

// close ends the process, and waits until it is gone.
func (c *child) close() {
	c.kill()
	_ = c.to.Close()
	<-c.exited
	_ = c.from.Close()
}

// watch lets the process be killed when it takes too long, or ctx ends, until stop is
// called.
func (c *child) watch(ctx context.Context) (stop func()) {
	timeout := c.isolate.Timeout
	if timeout == 0 {
		timeout = defaultTimeout
	}
	timer := time.AfterFunc(timeout, func() { c.hung.Store(true); c.kill() })
	leave := context.AfterFunc(ctx, c.kill)
	return func() {
		timer.Stop()
		leave()
	}
}

// blame says why the process did not answer. Damage is what comes again at each reading.
// began tells whether it has asked for any byte of the file: before that it knows nothing
// of it, and what goes wrong is the program's or the system's.
func (c *child) blame(ctx context.Context, err error, began bool) error {
	_ = c.to.Close()
	if isEnd(err) { // it is about to say why
		select {
		case <-c.exited:
		case <-time.After(lastWords):
		}
	}
	c.kill()
	<-c.exited
	said := c.stderr.String()
	line, _, _ := strings.Cut(strings.TrimSpace(said), "\n")
	if len(line) > 500 {
		line = line[:500]
	}
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case c.hung.Load():
		return fmt.Errorf("the process that decodes it gave no answer for %v, and was killed", c.timeout())
	case !began:
		return fmt.Errorf("the process that decodes files does not come to it (%v: %q): before main this program may need its environment, print something, or need more memory than Isolate.Memory (%w)", c.err, line, err)
	case outOfMemory(said):
		return filesource.Damaged(fmt.Errorf("decoding it needs more memory than the %d bytes of Isolate.Memory: the process that did it has ended, this one has not", c.isolate.Memory))
	case errors.As(c.err, &exit) && exit.Exited():
		return filesource.Damaged(fmt.Errorf("the process that decodes it has ended with %v: %q", exit, line))
	case c.err != nil && !errors.As(c.err, &exit):
		return c.err
	case !isEnd(err):
		return filesource.Damaged(fmt.Errorf("the process that decodes it talks nonsense: %w", err))
	}
	return fmt.Errorf("the process that decodes it was killed (%v)", c.err)
}

func (c *child) timeout() time.Duration {
	if c.isolate.Timeout == 0 {
		return defaultTimeout
	}
	return c.isolate.Timeout
}

// outOfMemory knows what Go's runtime dies with when it gets no memory, with the race
// detector too.
func outOfMemory(said string) bool {
	return strings.Contains(said, "out of memory") || strings.Contains(said, "cannot allocate memory") || strings.Contains(said, "address space collisions")
}

// lastWords is how long a process that has closed its pipes may take to end.
const lastWords = 5 * time.Second

// isEnd tells that the other end of a pipe is closed.
func isEnd(err error) bool {
	var path *os.PathError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &path) || errors.Is(err, os.ErrClosed)
}

// readerAt remembers the errors of the file, which are not the process's.
type readerAt struct {
	io.ReaderAt
	err   error
	asked bool // by the process at hand
}

func (r *readerAt) ReadAt(p []byte, at int64) (int, error) {
	r.asked = true
	n, err := r.ReaderAt.ReadAt(p, at)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

// apart is a file that a process of its own decodes.
type apart struct {
	isolate *Isolate
	file    *readerAt
	size    int64
	limits  parquetread.Limits
	reads   bool // its rows, not the footer only

	child   *child
	distant *parquetread.Distant
}

// isolated opens a file in a process of its own.
func isolated(ctx context.Context, i *Isolate, r io.ReaderAt, size int64, limits parquetread.Limits, reads bool) (opened, error) {
	a := &apart{isolate: i, file: &readerAt{ReaderAt: r}, size: size, limits: limits, reads: reads}
	if err := a.open(ctx); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *apart) open(ctx context.Context) error {
	a.file.asked = false
	c, from, to, err := start(a.isolate, a.reads)
	if err != nil {
		return err
	}
	stop := c.watch(ctx)
	d, err := parquetread.OpenDistant(a.file, a.size, a.limits, from, to, int(min(a.isolate.Memory, 1<<31-1)))
	stop()
	if err != nil {
		err = a.fault(ctx, c, err)
		c.close()
		return err
	}
	a.child, a.distant = c, d
	return nil
}

// fault tells the three kinds of errors apart: the file's, the disk's, the process's.
func (a *apart) fault(ctx context.Context, c *child, err error) error {
	switch {
	case a.file.err != nil:
		return a.file.err
	case parquetread.IsDamage(err):
		return err
	}
	return c.blame(ctx, err, a.file.asked)
}

func (a *apart) meta() *parquetread.File { return a.distant.File }

func (a *apart) close() {
	if a.child != nil {
		a.child.close()
		a.child = nil
	}
}

func (a *apart) reader(columns []int, from int64, rows int) pieces {
	return &apartPieces{a, columns, from, rows, false}
}

// apartPieces are the pieces of a file from a row on.
type apartPieces struct {
	*apart
	columns []int
	from    int64
	rows    int
	began   bool
}

// Next implements pieces.
func (p *apartPieces) Next(ctx context.Context) (*parquetread.Piece, error) {
	if p.child == nil || !p.began && p.distant.Began() { // a process reads once
		before := p.distant.File
		p.close()
		if err := p.open(ctx); err != nil {
			return nil, err
		}
		// The plan was made for these columns.
		if after := p.distant.File; after.Rows != before.Rows || !reflect.DeepEqual(after.Columns, before.Columns) {
			return nil, filesource.Damaged(errors.New("its footer is read differently each time"))
		}
	}
	stop := p.child.watch(ctx)
	defer stop()
	var err error
	if !p.began {
		p.began = true
		err = p.distant.Begin(p.columns, p.from, p.rows)
	}
	var piece *parquetread.Piece
	if err == nil {
		piece, err = p.distant.Next()
	}
	if err != nil && err != io.EOF {
		return nil, p.fault(ctx, p.child, err)
	}
	return piece, err
}
