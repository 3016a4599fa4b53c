package notify

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"
)

// news is one thing to tell.
type news struct {
	kind             string // what may be told together; "" is told alone
	level            slog.Level
	one, many        string // headings; many has a %d
	item             string
	rows, unreadable int64
}

// group is a message in the making: news of one kind.
type group struct {
	news
	items      []string // the first few
	count      int
	first, due time.Time
	tried      time.Time // the first attempt that failed
}

const maxItems = 5

func (g *group) take(t news) {
	g.level = max(g.level, t.level)
	g.rows += t.rows
	g.unreadable += t.unreadable
	g.count++
	if t.item != "" && len(g.items) < maxItems {
		g.items = append(g.items, t.item)
	}
}

// absorb takes what is younger than g.
func (g *group) absorb(o *group) {
	g.level = max(g.level, o.level)
	g.rows += o.rows
	g.unreadable += o.unreadable
	g.count += o.count
	g.items = append(g.items, o.items[:min(len(o.items), maxItems-len(g.items))]...)
}

// tell queues t and returns at once.
func (n *Notifier) tell(t news) {
	if t.level < n.c.Level {
		return
	}
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	g := n.ofKind(t.kind)
	if g == nil {
		g = &group{news: news{kind: t.kind, level: t.level, one: t.one, many: t.many}, first: now, due: now.Add(n.c.Window)}
		if last, ok := n.last[t.kind]; ok {
			if next := last.Add(n.c.Every); next.After(g.due) {
				g.due = next
			}
		}
		n.waiting = append(n.waiting, g)
	}
	g.take(t)
	n.shed()
	if n.idle == nil {
		n.idle = make(chan struct{})
		go n.work(n.idle)
	} else {
		n.rouse()
	}
}

// rouse makes the goroutine look at the queue again.
func (n *Notifier) rouse() {
	select {
	case n.wake <- struct{}{}:
	default: // it was told already
	}
}

func (n *Notifier) ofKind(kind string) *group {
	for _, g := range n.waiting {
		if g.kind == kind && kind != "" {
			return g
		}
	}
	return nil
}

// shed keeps the queue bounded: the oldest of the lowest level goes.
func (n *Notifier) shed() {
	for len(n.waiting) > n.c.Queue {
		least := 0
		for i, g := range n.waiting {
			if g.level < n.waiting[least].level {
				least = i
			}
		}
		n.dropped += n.waiting[least].count
		n.waiting = slices.Delete(n.waiting, least, least+1)
	}
}

// work sends what waits, until nothing does.
func (n *Notifier) work(idle chan struct{}) {
	defer close(idle)
	for {
		n.mu.Lock()
		var left []*group
		if n.ctx.Err() != nil {
			left, n.waiting = n.waiting, nil
			for _, g := range left {
				n.lost += g.count
			}
		}
		if len(n.waiting) == 0 {
			n.idle = nil
			n.mu.Unlock()
			for _, g := range left {
				n.undelivered(g, "closed before it could be delivered")
			}
			return
		}
		g, wait := n.pick(time.Now())
		n.mu.Unlock()
		if g != nil {
			n.deliver(g)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-n.wake:
		case <-n.ctx.Done():
		}
		timer.Stop()
	}
}

// pick takes the group that is due first out of the queue, or tells how long to
// wait for it.
func (n *Notifier) pick(now time.Time) (g *group, wait time.Duration) {
	at := 0
	for i, g := range n.waiting {
		if g.due.Before(n.waiting[at].due) {
			at = i
		}
	}
	if !n.closed {
		wait = n.waiting[at].due.Sub(now)
	}
	if wait = max(wait, n.pause.Sub(now)); wait > 0 {
		return nil, wait
	}
	g = n.waiting[at]
	n.waiting = slices.Delete(n.waiting, at, at+1)
	n.sent(g.kind, now) // what comes while it is on its way must wait for the next one
	return g, 0
}

// deliver makes one attempt.
func (n *Notifier) deliver(g *group) {
	n.mu.Lock()
	dropped := n.dropped
	n.mu.Unlock()
	ctx, cancel := context.WithTimeout(n.ctx, n.c.Timeout)
	err := n.to.send(ctx, n.message(g, dropped, time.Now()))
	cancel()

	if say := n.settle(g, err, dropped, time.Now()); say != nil {
		say() // without the lock: a log may be slow, and tell waits for the lock
	}
}

// settle does what the outcome of an attempt asks for. What it returns is still to
// be logged.
func (n *Notifier) settle(g *group, err error, dropped int, now time.Time) (say func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err == nil || isRemark(err) {
		n.dropped -= dropped
		n.sent(g.kind, now)
		switch {
		case err != nil:
			say = func() { n.log().Warn("notify: not all took the message", "receiver", n.to.label, "error", err) }
		case n.failures > 0:
			say = func() { n.log().Info("notify: the receiver takes messages again", "receiver", n.to.label) }
		}
		n.failures = 0
		return say
	}
	if g.tried.IsZero() {
		g.tried = now
	}
	if isRefused(err) || now.Sub(g.tried) >= n.c.GiveUp {
		n.dropped += g.count
		n.sent(g.kind, now) // it would not fare better a moment later
		return func() { n.undelivered(g, err.Error()) }
	}
	n.failures++
	wait := n.backoff(err)
	n.pause = now.Add(wait)
	if n.failures == 1 && n.ctx.Err() == nil {
		say = func() {
			n.log().Warn("notify: a message can't be sent, will retry", "receiver", n.to.label, "wait", wait, "error", err)
		}
	}
	if o := n.ofKind(g.kind); o != nil { // what came meanwhile goes with it
		g.absorb(o)
		n.waiting = slices.DeleteFunc(n.waiting, func(x *group) bool { return x == o })
	}
	n.waiting = slices.Insert(n.waiting, 0, g)
	n.shed()
	return say
}

const maxBackoff = time.Minute

func (n *Notifier) backoff(err error) time.Duration {
	d := n.first
	for i := 1; i < n.failures && d < maxBackoff; i++ {
		d *= 2
	}
	d = time.Duration(float64(min(d, maxBackoff)) * (0.8 + 0.4*rand.Float64()))
	return max(d, askedWait(err))
}

// sent remembers when the kind was last told, for Config.Every.
func (n *Notifier) sent(kind string, now time.Time) {
	for k, at := range n.last {
		if now.Sub(at) >= n.c.Every {
			delete(n.last, k)
		}
	}
	if kind != "" && n.c.Every > 0 {
		n.last[kind] = now
	}
}

// undelivered is the last resort: the log has it.
func (n *Notifier) undelivered(g *group, why string) {
	n.log().Log(context.Background(), g.level, "notify: message not delivered",
		"text", n.message(g, 0, time.Now()).line(), "receiver", n.to.label, "error", why)
}
