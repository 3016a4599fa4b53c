package kafkasource

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

type topicPartition = kafka.TopicPartition

// ownership is which partitions this process has. The group's callbacks change it, on
// the client's goroutines, whether or not Run is on; Run follows it (rules E8, H3, H5).
type ownership struct {
	mu     sync.Mutex
	claims map[topicPartition]*claim
	tokens uint64 // given so far
	err    error  // the group does not want us; see refused

	// id is who we are for the group now, and member who we were when it gave us the claims. The client
	// keeps silent about having been taken for dead when it hears of it as it joins: it joins anew, and until
	// it is given partitions again nobody has told us that others have had ours meanwhile.
	id     func() (id string, generation int32) // nil: without a group
	member string

	joined bool   // the group has said what we have, be it nothing
	reader reader // of the last Run; nil before the first
	doing  *step  // what the reader is at
	dirty  bool   // something has changed since the reader looked
	wake   func() // ends the reader's wait
}

// claim is one partition from getting it to losing it.
type claim struct {
	token     uint64
	leaving   bool  // being revoked: nothing more is sent of it
	read      bool  // the last Run had it from Intake.Assign
	committed int64 // in the group; or one of those below
	whole     int64 // up to here all sinks have it; -1: not known
}

const (
	noOffset = -1 // the group has no offset; 0 is one, where reading begins at the end of an empty partition
	unknown  = -2 // it was not asked yet, so nothing is committed
)

// reader is what the group's callbacks need of leat.Intake.
type reader interface {
	Revoke(ctx context.Context, partitions ...string) error
	Lost(partitions ...string)
}

// step is something the reader does with partitions that must not be interrupted: while
// it lasts they are not given away.
type step struct {
	of   []topicPartition
	done chan struct{}
}

// as says how to find out who we are for the group.
func (o *ownership) as(id func() (id string, generation int32)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.id = id
}

// expelled tells whether the claims are an earlier member's. o.mu is held.
func (o *ownership) expelled() bool {
	if o.id == nil {
		return false
	}
	id, _ := o.id()
	return o.isNot(id)
}

// isNot tells whether the claims are an earlier member's than id. o.mu is held.
func (o *ownership) isNot(id string) bool { return o.member != "" && o.member != id }

// isExpelled is expelled for who has not got the lock.
func (o *ownership) isExpelled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.expelled()
}

// stale are the claims of an earlier member than id that have not been taken from us: they are lost, and given to
// us again. They stay void until gained says who we are.
func (o *ownership) stale(id string) (stale []topicPartition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.isNot(id) {
		for tp := range o.claims {
			stale = append(stale, tp)
		}
		sortPartitions(stale)
	}
	return stale
}

// gained adds partitions, each with a new token, that the group has given to the member; without a group it is "".
func (o *ownership) gained(member string, tps []topicPartition) {
	o.mu.Lock()
	o.joined, o.member = true, member
	for _, tp := range tps {
		if o.claims[tp] == nil {
			o.tokens++
			o.claims[tp] = &claim{token: o.tokens, committed: unknown, whole: -1}
		}
	}
	o.changed()
	o.mu.Unlock()
}

// changed tells the reader. o.mu is held.
func (o *ownership) changed() {
	o.dirty = true
	if o.wake != nil {
		o.wake()
	}
}

// refuse notes that the group has sent us away for good.
func (o *ownership) refuse(err error) {
	o.mu.Lock()
	if o.err == nil {
		o.err = err
	}
	o.changed()
	o.mu.Unlock()
}

// refusal is the error of refuse.
func (o *ownership) refusal() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// revoked gives partitions up in good order (rule H3). When it returns, somebody else
// may have them. ctx bounds it. settle, if set, is called when all that was read of them is durable.
func (o *ownership) revoked(ctx context.Context, tps []topicPartition, settle func(context.Context, []topicPartition)) (kept []string, err error) {
	o.mu.Lock()
	for _, tp := range tps {
		if c := o.claims[tp]; c != nil {
			c.leaving = true
		}
	}
	o.changed()
	doing := o.doing
	if !doing.concerns(tps) {
		doing = nil
	}
	o.mu.Unlock()
	if doing != nil { // it may stand in Send, for want of budget
		select {
		case <-doing.done:
		case <-ctx.Done():
		}
	}

	r, read := o.engines(tps)
	if r != nil && len(read) > 0 {
		if err = r.Revoke(ctx, read...); err == nil && settle != nil {
			settle(ctx, tps)
		}
	}
	o.drop(tps)
	return read, err
}

// engines are those of the partitions that the engine has, or is just taking over.
func (o *ownership) engines(tps []topicPartition) (r reader, read []string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, tp := range tps {
		if c := o.claims[tp]; c != nil && (c.read || o.doing.concerns([]topicPartition{tp})) {
			read = append(read, tp.String())
		}
	}
	return o.reader, read
}

// lost takes partitions away that somebody else has already.
func (o *ownership) lost(tps []topicPartition) (read []string) {
	r, read := o.engines(tps)
	o.drop(tps)
	if r != nil && len(read) > 0 {
		r.Lost(read...)
	}
	return read
}

func (o *ownership) drop(tps []topicPartition) {
	o.mu.Lock()
	for _, tp := range tps {
		delete(o.claims, tp)
	}
	o.changed()
	o.mu.Unlock()
}

func (s *step) concerns(tps []topicPartition) bool {
	if s == nil {
		return false
	}
	for _, a := range s.of {
		for _, b := range tps {
			if a == b {
				return true
			}
		}
	}
	return false
}

// begin starts a step with those of the partitions that are still ours with these
// tokens; nil when none is. The reader calls end after it.
func (o *ownership) begin(tokens map[topicPartition]uint64) *step {
	o.mu.Lock()
	defer o.mu.Unlock()
	s := &step{done: make(chan struct{})}
	for tp, token := range tokens {
		if o.ours(tp, token) {
			s.of = append(s.of, tp)
		}
	}
	if len(s.of) == 0 {
		return nil
	}
	o.doing = s
	return s
}

// beginOne is begin for one partition.
func (o *ownership) beginOne(tp topicPartition, token uint64) *step {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ours(tp, token) {
		return nil
	}
	o.doing = &step{of: []topicPartition{tp}, done: make(chan struct{})}
	return o.doing
}

func (o *ownership) ours(tp topicPartition, token uint64) bool {
	c := o.claims[tp]
	return c != nil && c.token == token && !c.leaving && !o.expelled()
}

func (o *ownership) end(s *step) {
	o.mu.Lock()
	o.doing = nil
	close(s.done)
	o.mu.Unlock()
}

// assigned notes that the engine has the partitions now. It returns those that were given
// away in the meantime, because a step took longer than the group could wait.
func (o *ownership) assigned(tokens map[topicPartition]uint64, committed map[topicPartition]int64, at map[string]leat.Position) (gone []topicPartition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for tp, token := range tokens {
		c := o.claims[tp]
		if c == nil || c.token != token {
			gone = append(gone, tp)
			continue
		}
		c.read, c.committed, c.whole = true, noOffset, -1
		if p := at[tp.String()]; p.Known() {
			c.whole = p.Next
		}
		if at, ok := committed[tp]; ok {
			c.committed = at
		}
	}
	return gone
}

// look gives the partitions that are ours, with their tokens, and whether the group has spoken.
func (o *ownership) look() (ours map[topicPartition]uint64, joined bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dirty = false
	ours = make(map[topicPartition]uint64, len(o.claims))
	if o.expelled() {
		return ours, o.joined
	}
	for tp, c := range o.claims {
		if !c.leaving {
			ours[tp] = c.token
		}
	}
	return ours, o.joined
}

// all are the partitions that there are claims of.
func (o *ownership) all() []topicPartition {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.claims))
}

func (o *ownership) hasJoined() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.joined
}

func (o *ownership) isDirty() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dirty
}

// waking makes changes end a wait by wake, at once if there has been one.
func (o *ownership) waking(wake func()) {
	o.mu.Lock()
	o.wake = wake
	if o.dirty && wake != nil {
		wake()
	}
	o.mu.Unlock()
}

// attach begins a Run.
func (o *ownership) attach(r reader) {
	o.mu.Lock()
	o.reader = r
	for _, c := range o.claims {
		c.read = false
	}
	o.mu.Unlock()
}

// detach says that the engine is through, also with what the last Run has sent: until then,
// what is revoked is still waited for. From here on callbacks only change the table.
func (o *ownership) detach() {
	o.mu.Lock()
	o.reader, o.wake = nil, nil
	o.mu.Unlock()
}

// renew gives a partition that the reader has not got a new token, as if the group had given it
// to this process once more. false: it is not ours with that token.
func (o *ownership) renew(tp topicPartition, token uint64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.ours(tp, token) {
		return false
	}
	o.tokens++
	o.claims[tp] = &claim{token: o.tokens, committed: unknown, whole: -1}
	o.changed()
	return true
}

func (o *ownership) token(tp topicPartition) uint64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.claims[tp]; c != nil && !o.expelled() {
		return c.token
	}
	return 0
}

// holds tells who we are for the group; missing are those of the partitions that are not held with their tokens.
func (o *ownership) holds(have map[topicPartition]uint64) (id string, generation int32, missing []topicPartition) {
	o.mu.Lock()
	defer o.mu.Unlock()
	generation = -1
	if o.id != nil {
		id, generation = o.id() // once: the client does not ask for the lock before it is somebody new
	}
	for tp, token := range have {
		if c := o.claims[tp]; o.isNot(id) || c == nil || c.token != token {
			missing = append(missing, tp)
		}
	}
	return id, generation, missing
}

// complete notes what all sinks have.
func (o *ownership) complete(at map[topicPartition]kafka.Offset) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for tp, to := range at {
		if c := o.claims[tp]; c != nil && c.read {
			c.whole = max(c.whole, to.Next)
		}
	}
}

func (o *ownership) whole(tp topicPartition) int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	if c := o.claims[tp]; c != nil {
		return c.whole
	}
	return -1
}

// committable leaves of the offsets those that are ours to commit and ahead of what the
// group has: a commit never goes backwards (rule E2). have are their tokens.
func (o *ownership) committable(at map[topicPartition]kafka.Offset) (_ map[topicPartition]kafka.Offset, have map[topicPartition]uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at, have = maps.Clone(at), map[topicPartition]uint64{}
	expelled := o.expelled()
	for tp, to := range at {
		if c := o.claims[tp]; expelled || c == nil || c.committed == unknown || to.Next <= c.committed {
			delete(at, tp)
		} else {
			have[tp] = c.token
		}
	}
	return at, have
}

func (o *ownership) noteCommitted(at map[topicPartition]kafka.Offset) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for tp, to := range at {
		if c := o.claims[tp]; c != nil && c.committed != unknown {
			c.committed = max(c.committed, to.Next)
		}
	}
}

var _ reader = leat.Intake[struct{}]{}
