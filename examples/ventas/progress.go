package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/examples/internal/cli"
)

// progress writes one line to a terminal, again and again, and lets the log pass
// in between. On anything but a terminal it lets the log pass and is silent.
type progress struct {
	terminal bool

	mu   sync.Mutex
	w    io.Writer
	line string // what stands on the last line now
}

func newProgress(f *os.File) *progress {
	info, err := f.Stat()
	return &progress{w: f, terminal: err == nil && info.Mode()&os.ModeCharDevice != 0}
}

const clearLine = "\r\x1b[K"

// Write implements io.Writer for the log.
func (p *progress) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.line == "" {
		return p.w.Write(b)
	}
	if _, err := io.WriteString(p.w, clearLine); err != nil {
		return 0, err
	}
	n, err := p.w.Write(b)
	_, _ = io.WriteString(p.w, p.line)
	return n, err
}

func (p *progress) show(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line = line
	_, _ = io.WriteString(p.w, clearLine+line)
}

// follow shows the counts of a running pipeline until stop is called.
func (p *progress) follow(stats func() leat.Stats) (stop func()) {
	if !p.terminal {
		return func() {}
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		start := time.Now()
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				p.show("")
				return
			case <-tick.C:
			}
			s := stats()
			p.show(fmt.Sprintf("rows in %s, loaded %s, rejected %s, %s rows/s",
				cli.Count(s.Run.In), cli.Count(s.Run.Out["ventas"]), cli.Count(sum(s.Run.Rejected)),
				cli.Count(int64(float64(s.Run.In)/time.Since(start).Seconds()))))
		}
	})
	return func() {
		close(done)
		wg.Wait()
	}
}
