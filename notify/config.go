package notify

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what is told, and to whom. The zero value tells everything to the
// default logger.
type Config struct {
	// URL is the receiver; see the package. Defaults to the log.
	URL string

	// Level is the lowest that is told. Defaults to Info, the zero value.
	Level slog.Level

	// Pipeline begins each message. Defaults to nothing.
	Pipeline string

	// Logger gets the messages when there is no URL, and what could not be
	// delivered. Defaults to slog.Default().
	Logger *slog.Logger

	// Window is how long news wait for others of their kind. Defaults to 5 s; -1
	// sends at once.
	Window time.Duration

	// Every is the least time between two messages of one kind. Defaults to 1 min; -1
	// means none.
	Every time.Duration

	// Patience is how long a node must have been unavailable before it is told.
	// Defaults to 1 min; -1 tells at the first retry.
	Patience time.Duration

	// Timeout bounds one attempt to send. Defaults to 10 s.
	Timeout time.Duration

	// GiveUp is how long a message is tried again before it goes to the log alone.
	// Defaults to 1 h.
	GiveUp time.Duration

	// Queue is how many messages may wait. Defaults to 64.
	Queue int
}

const (
	defaultWindow   = 5 * time.Second
	defaultEvery    = time.Minute
	defaultPatience = time.Minute
	defaultTimeout  = 10 * time.Second
	defaultGiveUp   = time.Hour
	defaultQueue    = 64
)

// Notifier tells people. Its methods may be called at the same time.
type Notifier struct {
	c      Config // with its defaults
	faults error
	to     receiver
	ctx    context.Context // its end gives up what is being sent
	cancel context.CancelFunc

	troubled atomic.Bool // troubles is not empty; spares the hot path the lock
	seen     sync.Mutex  // what Observe remembers
	troubles map[string]*trouble
	started  bool

	mu       sync.Mutex // the queue
	waiting  []*group   // by age
	last     map[string]time.Time
	dropped  int
	failures int       // of the receiver, since it last took something
	pause    time.Time // no attempt before
	lost     int       // given up since New, for Close
	closed   bool
	idle     chan struct{} // closed when the goroutine ends; nil when there is none
	wake     chan struct{}
	first    time.Duration // backoff
}

// New remembers c. Nothing is sent, nor is there a goroutine, before there is news.
func New(c Config) *Notifier {
	n := &Notifier{
		faults: c.faults(), c: c,
		troubles: map[string]*trouble{}, last: map[string]time.Time{},
		wake: make(chan struct{}, 1), first: time.Second,
	}
	n.c.Window = duration(c.Window, defaultWindow)
	n.c.Every = duration(c.Every, defaultEvery)
	n.c.Patience = duration(c.Patience, defaultPatience)
	n.c.Timeout = duration(c.Timeout, defaultTimeout)
	n.c.GiveUp = duration(c.GiveUp, defaultGiveUp)
	if n.c.Queue < 1 {
		n.c.Queue = defaultQueue
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.to = newReceiver(c.URL, n.log)
	return n
}

// Validate reports all that is wrong with the Config, joined. It sends nothing: a
// URL may be well formed and its token wrong.
func (n *Notifier) Validate() error {
	_, err := parseReceiver(n.c.URL)
	return errors.Join(n.faults, err)
}

func (c *Config) faults() error {
	var faults []error
	for _, f := range []struct {
		name string
		d    time.Duration
		off  bool
	}{
		{"Window", c.Window, true}, {"Every", c.Every, true}, {"Patience", c.Patience, true},
		{"Timeout", c.Timeout, false}, {"GiveUp", c.GiveUp, false},
	} {
		if f.d < 0 && (!f.off || f.d != -1) {
			faults = append(faults, fmt.Errorf("notify: Config.%s %v is negative", f.name, f.d))
		}
	}
	if c.Queue < 0 {
		faults = append(faults, fmt.Errorf("notify: Config.Queue %d is negative", c.Queue))
	}
	return errors.Join(faults...)
}

func duration(d, def time.Duration) time.Duration {
	switch {
	case d == 0:
		return def
	case d < 0:
		return 0
	}
	return d
}

func (n *Notifier) log() *slog.Logger {
	if n.c.Logger != nil {
		return n.c.Logger
	}
	return slog.Default()
}
