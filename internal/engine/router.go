package engine

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
)

// NewRouter makes the router of pipelines that run alone. It is silent: what it
// has to say, the engine says better.
func NewRouter() *message.Router {
	return message.NewDefaultRouter(watermill.NopLogger{})
}

// Attach adds the pipeline to a router; it starts when the router subscribes.
func (e *Engine) Attach(router *message.Router) error {
	name := e.plan.Pipeline
	if e.plan.Member > 0 {
		name += "/" + strconv.Itoa(e.plan.Member)
	}
	if _, taken := router.Handlers()[name]; taken {
		return fmt.Errorf("the router has a handler named %q already", name)
	}
	h := router.AddConsumerHandler(name, "leat/"+name, subscriber{e}, e.handle)
	h.AddMiddleware(e.cfg.Middleware...)
	return nil
}

// subscriber is the engine as the router sees it.
type subscriber struct{ e *Engine }

// Subscribe starts the run. The end of ctx (the router stops) is a drain; the
// messages' contexts do not hang on it, so that a drain can finish (rule A7).
func (s subscriber) Subscribe(ctx context.Context, _ string) (<-chan *message.Message, error) {
	context.AfterFunc(ctx, s.e.stop)
	go s.e.main()
	return s.e.out, nil
}

// Close drains and waits (rule K3). The router calls it when it closes.
func (s subscriber) Close() error {
	s.e.stop()
	<-s.e.done
	return nil
}

type passageKey struct{}

// emit sends the ticket's message to the router and watches it (rule K1).
func (g *generation) emit(p *passage) error {
	p.sent++
	// Rule K2: ids are unique, also among repeats, processes and their lives, so that a
	// deduplicating middleware that goes by id leaves them alone.
	id := g.e.plan.Pipeline + "/" + p.lane.name + "/" + p.lane.id + "-" +
		strconv.FormatUint(p.ticket, 10) + "-" + strconv.Itoa(p.sent)
	msg := message.NewMessage(id, nil)
	msg.SetContext(context.WithValue(g.ctx, passageKey{}, p))
	select {
	case g.e.out <- msg:
	case <-g.ctx.Done():
		return context.Cause(g.ctx)
	}
	go g.watch(p, msg)
	return nil
}

// watch waits for the router's verdict on one message.
func (g *generation) watch(p *passage, msg *message.Message) {
	defer g.e.emitting.Done()
	select {
	case <-g.ctx.Done():
	case <-msg.Acked():
		if !p.isFiled() {
			// Rule K1: somebody answered for the handler.
			g.fail(&Error{Node: p.lane.source.Name, Partition: p.lane.name, Offset: p.chunk.First,
				Err: fmt.Errorf("middleware swallowed batch %s: it was acknowledged without having been processed "+
					"(Deduplicator, PoisonQueue, IgnoreErrors and InstantAck do that; rule K2); nothing is lost, take it off this pipeline's handler and start again", msg.UUID)})
		}
	case <-msg.Nacked():
		if p.isFiled() {
			return // filing is final; the error came from middleware behind the handler
		}
		if g.e.cfg.Retry.exhausted(p.sent) {
			g.fail(&Error{Node: p.lane.source.Name, Partition: p.lane.name, Offset: p.chunk.First,
				Err: fmt.Errorf("gave up after %d attempts: middleware refused batch %s each time, see the router's log; nothing is lost", p.sent, msg.UUID)})
			return
		}
		wait := g.e.cfg.Retry.wait(p.sent)
		g.e.log.Warn("middleware refused a batch, sending it again", "batch", msg.UUID, "wait", wait)
		g.e.observe(Event{Kind: EventRetry, Node: p.lane.source.Name, Partition: p.lane.name, Duration: wait})
		g.hold(p.lane, +1)
		defer g.hold(p.lane, -1)
		if sleep(g.ctx, wait) != nil {
			return
		}
		g.e.emitting.Add(1)
		if g.emit(p) != nil {
			g.e.emitting.Done()
		}
	}
}
