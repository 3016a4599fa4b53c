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
func (l *Lines) Logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(io.MultiWriter(l, t.Output()), &slog.HandlerOptions{Level: slog.LevelDebug}))
}
