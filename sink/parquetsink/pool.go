package parquetsink

import (
	"fmt"
	"math/bits"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// pool has the goroutines and the memory that all files of an engine share. It
// has no goroutine while there is nothing to encode, and at most one for each
// processor.
//
// Row groups come from one goroutine, which also waits for them; that one lends a
// hand while it waits.
type pool struct {
	mu      sync.Mutex
	changed sync.Cond // a row group is encoded, or a worker has ended
	queue   []job
	next    int // of queue
	workers int
	most    int

	free    [bufferClasses][][]byte
	spare   int // bytes in free and dicts
	benches []*bench
	dicts   []*dictionary
}

// job is a column of a row group, to be encoded.
type job struct {
	g      *rowGroup
	column int
}

func newPool() *pool {
	p := &pool{most: runtime.GOMAXPROCS(0)}
	p.changed.L = &p.mu
	return p
}

// rowGroup is a row group that is complete, in memory: first as it was gathered,
// then encoded.
type rowGroup struct {
	rows   int64
	raw    int64 // bytes of the values
	chunks []*chunk
	out    []encoded
	held   atomic.Int64 // memory
	left   atomic.Int64 // columns to encode
	err    error        // under pool.mu
	o      FileOptions
}

// submit hands out a row group's columns. Tiny ones are not worth a goroutine.
func (p *pool) submit(g *rowGroup) {
	const tiny = 16 << 10
	if g.raw < tiny {
		b := p.bench()
		for i := range g.chunks {
			p.run(job{g, i}, b)
		}
		p.mu.Lock()
		p.benches = append(p.benches, b)
		p.mu.Unlock()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range g.chunks {
		p.queue = append(p.queue, job{g, i})
	}
	for p.workers < min(p.most, len(p.queue)-p.next) {
		p.workers++
		go p.work()
	}
}

func (p *pool) work() {
	b := p.bench()
	p.mu.Lock()
	defer p.mu.Unlock()
	for {
		j, ok := p.pop()
		if !ok {
			break
		}
		p.mu.Unlock()
		p.run(j, b)
		p.mu.Lock()
	}
	p.workers--
	p.benches = append(p.benches, b)
	p.changed.Broadcast()
}

// pop takes the next job; p.mu is held.
func (p *pool) pop() (job, bool) {
	if p.next == len(p.queue) {
		p.queue, p.next = p.queue[:0], 0
		return job{}, false
	}
	j := p.queue[p.next]
	p.queue[p.next] = job{}
	p.next++
	return j, true
}

// run encodes a column. The last one of a row group says so.
func (p *pool) run(j job, b *bench) {
	if err := encodeSafely(p, j, b); err != nil {
		// First of all: settle looks at left without the lock.
		p.mu.Lock()
		if j.g.err == nil {
			j.g.err = err
		}
		p.mu.Unlock()
	}
	if j.g.left.Add(-1) > 0 {
		return
	}
	p.mu.Lock()
	p.changed.Broadcast()
	p.mu.Unlock()
}

// encodeSafely makes an error of a panic: it costs the file, not the process.
func encodeSafely(p *pool, j job, b *bench) (err error) {
	k := j.g.chunks[j.column]
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("column %s: the encoder panicked: %v\n%s", k.column.Name, v, debug.Stack())
		}
	}()
	held := k.memory()
	if j.g.out[j.column], err = b.encode(p, k, j.g.o); err != nil {
		return fmt.Errorf("column %s: %w", k.column.Name, err)
	}
	j.g.held.Add(int64(cap(j.g.out[j.column].bytes)) - held)
	return nil
}

// wait returns when a row group is encoded, or can't be.
func (p *pool) wait(g *rowGroup) error {
	var own *bench
	p.mu.Lock()
	for g.left.Load() > 0 {
		j, ok := p.pop()
		if !ok {
			p.changed.Wait()
			continue
		}
		p.mu.Unlock()
		if own == nil {
			own = p.bench()
		}
		p.run(j, own)
		p.mu.Lock()
	}
	if own != nil {
		p.benches = append(p.benches, own)
	}
	defer p.mu.Unlock()
	return g.err
}

// close ends all work that nobody waits for any more.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.queue, p.next = nil, 0
	for p.workers > 0 {
		p.changed.Wait()
	}
	p.free, p.spare, p.benches, p.dicts = [bufferClasses][][]byte{}, 0, nil, nil
}

// bench gives the scratch memory of a worker.
func (p *pool) bench() *bench {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.benches); n > 0 {
		b := p.benches[n-1]
		p.benches = p.benches[:n-1]
		return b
	}
	return &bench{}
}

// dictionary gives an empty one.
func (p *pool) dictionary() *dictionary {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.dicts); n > 0 {
		d := p.dicts[n-1]
		p.dicts[n-1] = nil
		p.dicts = p.dicts[:n-1]
		p.spare -= d.memory()
		return d
	}
	return newDictionary()
}

// putDictionary takes back one that nobody uses any more.
func (p *pool) putDictionary(d *dictionary) {
	d.reset()
	size := d.memory()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spare+size <= mostSpare {
		p.dicts = append(p.dicts, d)
		p.spare += size
	}
}

// Buffers come in sizes, four for each doubling.
const (
	leastBuffer   = 512
	mostBuffer    = 4 << 20
	bufferClasses = 1 + 4*13
	mostSpare     = 16 << 20 // bytes kept for the next row groups and files
)

// bufferClass gives the class of a size and how large its buffers are.
func bufferClass(n int) (class, size int) {
	if n <= leastBuffer {
		return 0, leastBuffer
	}
	b := bits.Len(uint(n - 1)) // 2^(b-1) < n <= 2^b
	half, quarter := 1<<(b-1), 1<<(b-3)
	q := (n - 1 - half) / quarter
	return (b-10)*4 + q + 1, half + (q+1)*quarter
}

// get gives an empty buffer for at least n bytes, not much larger. Its memory is fit
// for numbers of 8 bytes.
func (p *pool) get(n int) []byte {
	if n > mostBuffer {
		return make([]byte, 0, n)
	}
	class, size := bufferClass(n)
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := class; c <= min(class+4, bufferClasses-1); c++ { // one of up to twice the size is better than one more
		if list := p.free[c]; len(list) > 0 {
			b := list[len(list)-1]
			list[len(list)-1] = nil
			p.free[c] = list[:len(list)-1]
			p.spare -= cap(b)
			return b
		}
	}
	return make([]byte, 0, size)
}

// put takes back a buffer that get has given.
func (p *pool) put(b []byte) {
	n := cap(b)
	if n == 0 || n > mostBuffer {
		return
	}
	class, size := bufferClass(n)
	if size != n {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.spare+size <= mostSpare {
		p.free[class] = append(p.free[class], b[:0])
		p.spare += size
	}
}

// grow gives b room for n more bytes, in a larger buffer if need be.
func (p *pool) grow(b []byte, n, hint int) []byte {
	if len(b)+n <= cap(b) {
		return b
	}
	larger := p.get(max(len(b)+n, 2*cap(b), hint))
	larger = append(larger, b...)
	p.put(b)
	return larger
}
