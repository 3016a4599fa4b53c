package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/leatgo/leat"
)

// Message is news of the program itself.
type Message struct {
	Level slog.Level
	Kind  string // messages of one kind that come together become one; "" stays alone
	Text  string // one line, without rows
}

// Send tells m. It returns at once.
func (n *Notifier) Send(m Message) {
	kind := m.Kind
	many := "%d messages"
	if kind != "" {
		kind, many = "program/"+kind, "%d messages of the kind "+clean(m.Kind, maxName)
	}
	n.tell(news{kind: kind, level: m.Level, many: many, item: clean(m.Text, maxText)})
}

// What may become of a file: the statuses of csvsource's ledger, and Refused for a
// file that got no place in it.
const (
	FileOK      = "ok"
	FileFailed  = "failed"
	FileSkipped = "skipped"
	FileRefused = "refused"
)

// File is what became of a file.
type File struct {
	Name       string
	Status     string // FileOK and so on
	Rows       int64
	Unreadable int64 // of them; what stages and sinks reject later is not known yet
	Duration   time.Duration
	Err        error // why, unless Status is FileOK; may be nil. One that quotes the file has a method ForLog() string
}

// File tells what became of a file. It returns at once. For a csvsource:
//
//	OnFile: func(e files.Event) {
//		f := notify.File{Name: e.Name, Status: e.Status, Rows: e.Rows, Unreadable: e.Rejected, Duration: e.Duration}
//		if e.Reason != "" { // its Error is the ledger's, and may quote the file
//			f.Err = errors.New(e.Reason)
//		}
//		n.File(f)
//	}
func (n *Notifier) File(f File) {
	item := clean(f.Name, maxName)
	t := news{kind: "file/" + f.Status, level: slog.LevelError, rows: f.Rows, unreadable: f.Unreadable}
	switch f.Status {
	case FileOK:
		t.level, t.one, t.many = slog.LevelInfo, "file done", "%d files done"
		item = fmt.Sprintf("%s, %d rows, %d unreadable, in %v", item, f.Rows, f.Unreadable, round(f.Duration))
	case FileSkipped:
		t.level, t.one, t.many = slog.LevelInfo, "file skipped", "%d files skipped"
	case FileRefused:
		t.one, t.many = "file refused", "%d files refused"
	default:
		t.kind, t.one, t.many = "file/"+FileFailed, "file failed", "%d files failed"
	}
	switch why := fileCause(f.Err); {
	case why != "":
		item += ": " + why
	case t.level == slog.LevelError:
		item += ": the log has the reason"
	}
	t.item = item
	n.tell(t)
}

// trouble is a node that can't go on for now.
type trouble struct {
	since, last time.Time
	wait        time.Duration // announced by the last retry
	times       int
	told        bool
}

// rewinding is the name under which rewinds are kept among the troubles. No node
// is called so.
const rewinding = ""

// forgotten is how long a trouble may be silent before another one at the same node
// is taken for a new one, in a pipeline in which nothing else happens either.
const forgotten = 15 * time.Minute

// Observe is for leat.Config.Observe. It returns at once, and while all is well
// costs nothing for what comes per batch.
func (n *Notifier) Observe(e leat.Event) {
	switch e.Kind {
	case leat.EventBatch, leat.EventWrite, leat.EventCommit, leat.EventCheckpoint:
		if n.troubled.Load() {
			n.wentWell(e)
		}
	case leat.EventRetry, leat.EventRewind:
		n.wentWrong(e)
	case leat.EventStarted:
		n.seen.Lock()
		again := n.started // also told after each rewind
		n.started = true
		n.seen.Unlock()
		if !again {
			n.tell(news{kind: "started", level: slog.LevelInfo, one: "started", many: "started %d times"})
		}
	case leat.EventStopped:
		n.seen.Lock()
		n.started = false
		clear(n.troubles)
		n.troubled.Store(false)
		n.seen.Unlock()
		n.tell(stopped(e.Err))
	}
}

func stopped(err error) news {
	switch {
	case err == nil:
		return news{kind: "stopped", level: slog.LevelInfo, one: "stopped; all that was read is committed", many: "stopped %d times"}
	case errors.Is(err, leat.ErrBreakerOpen): // rule B7
		return news{kind: "breaker", level: slog.LevelError, one: "stopped by the circuit breaker", many: "stopped %d times by the circuit breaker", item: breakerText(err)}
	}
	return news{kind: "failed", level: slog.LevelError, one: "stopped with an error", many: "stopped %d times with an error", item: errorText(err)}
}

// wentWrong remembers the trouble, and tells of it when it lasts.
func (n *Notifier) wentWrong(e leat.Event) {
	at, node := when(e), e.Node
	if e.Kind == leat.EventRewind {
		node = rewinding
	}
	n.seen.Lock()
	t := n.troubles[node]
	if t == nil || at.Sub(t.last) > t.wait+n.c.Patience+forgotten {
		t = &trouble{since: at}
		n.troubles[node] = t
		n.troubled.Store(true)
	}
	t.last, t.wait = at, e.Duration
	t.times++
	lasted, times := at.Sub(t.since), t.times
	tell := !t.told && lasted >= n.c.Patience
	t.told = t.told || tell
	n.seen.Unlock()
	if !tell {
		return
	}
	item := clean(node, maxName)
	if node == rewinding {
		item = fmt.Sprintf("the pipeline has gone back to its last checkpoint %d times", times)
	} else if e.Partition != "" && e.Partition != node {
		item += ", partition " + clean(e.Partition, maxName)
	}
	if lasted > 0 {
		item += fmt.Sprintf(", for %v now", round(lasted))
	}
	if why := cause(e.Err); why != "" {
		item += ": " + why
	}
	n.tell(news{kind: "trouble", level: slog.LevelWarn, one: "in trouble, still trying", many: "%d times in trouble, still trying", item: item})
}

// wentWell ends the troubles that e shows to be over.
func (n *Notifier) wentWell(e leat.Event) {
	at := when(e)
	n.seen.Lock()
	var over []news
	for node, t := range n.troubles {
		switch {
		case node == rewinding:
			if e.Kind != leat.EventCheckpoint {
				continue
			}
		case node == e.Node && e.Kind != leat.EventBatch:
			// A sink has taken something. That one of a source's partitions goes on says
			// nothing about the others.
		case at.Sub(t.last) <= t.wait+n.c.Patience:
			continue
			// Else it had its time to fail again: sources, stages and dead letters have no
			// event of their own that says they are well.
		}
		delete(n.troubles, node)
		if t.told {
			name := clean(node, maxName)
			if node == rewinding {
				name = "the pipeline"
			}
			over = append(over, news{kind: "well", level: slog.LevelWarn, one: "well again", many: "%d times well again",
				item: fmt.Sprintf("%s, after %v", name, round(at.Sub(t.since)))})
		}
	}
	n.troubled.Store(len(n.troubles) > 0)
	n.seen.Unlock()
	for _, t := range over {
		n.tell(t)
	}
}

func when(e leat.Event) time.Time {
	if e.Time.IsZero() {
		return time.Now()
	}
	return e.Time
}

// closeTimeout bounds Close when its context has no deadline.
const closeTimeout = 30 * time.Second

// Close sends what waits, without waiting for more of its kind, until ctx ends or,
// if ctx has no deadline, for 30 s. Give it a context of its own: the one that ended
// the pipeline has ended. What was not delivered by then is logged, and Close says
// how much that is. News that come later are not taken.
func (n *Notifier) Close(ctx context.Context) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, closeTimeout)
		defer cancel()
	}
	defer n.cancel()
	n.mu.Lock()
	n.closed = true
	n.pause = time.Time{}
	idle := n.idle
	n.mu.Unlock()
	n.rouse()
	if idle != nil {
		select {
		case <-idle:
		case <-ctx.Done():
			n.cancel()
			<-idle // soon: every attempt ends with n.ctx
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	lost := n.lost + n.dropped
	n.lost, n.dropped = 0, 0
	if lost == 0 {
		return nil
	}
	return fmt.Errorf("notify: messages not delivered to %s: %d; see the log", cmp.Or(n.to.label, "the log"), lost)
}
