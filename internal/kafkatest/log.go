package kafkatest

import (
	"bytes"
	"io"
	"log/slog"
	"sync"
	"testing"
)

// Lines is a log that is kept whole, at the level of most words.
type Lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *Lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Logger writes to l, and to the test's output.
func (l *Lines) Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(l, Output(t)), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// Logger writes to the test's output.
func Logger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(Output(t), nil))
}

// Output is the test's output until it ends, and nothing afterwards. A closed client of Kafka
// does not wait for its own goroutines, and one that is left open on purpose, as by a process
// that dies, finds out late that its broker is gone: what they log then would end the whole
// test binary.
func Output(t testing.TB) io.Writer {
	o := &output{to: t.Output()}
	t.Cleanup(o.end)
	return o
}

type output struct {
	mu sync.Mutex
	to io.Writer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.to.Write(b)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = io.Discard
}
