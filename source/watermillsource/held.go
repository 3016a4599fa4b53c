package watermillsource

import (
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/leatgo/leat"
)

// held are the messages that were taken and are not yet acknowledged, in order. Run adds,
// Commit acknowledges; both may happen at once.
type held struct {
	mu    sync.Mutex
	list  []entry // by ascending offset
	bytes int64
	next  leat.Offset
	acked []*message.Message // by the last Commit that acknowledged any
	room  chan struct{}      // told when there may be room again
}

type entry struct {
	offset leat.Offset
	msg    *message.Message
}

// start readies it for a Run, and gives what is to be sent again. at is where reading
// starts, ahead what some sink holds.
//
// Offsets are never given twice to different messages, not even after a crash that lost
// the last ones: ids of dead letters, and of messages that watermillsink writes, hang on
// them. So each Run begins at its nanosecond: no source is as fast as that, and a restart
// takes longer than clocks are set back. And they only grow, so that what an earlier life
// left in sinks and store is behind them (rule A2-1).
//
// Messages of an earlier Run keep theirs: so a row at fault is still known by its offset
// (rule B5), and the id of its letter is the same (rule B3-2). A message whose context has
// ended is not waited for any more, its subscriber hands it out anew: it is given back.
func (h *held) start(at, ahead leat.Offset) []entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.room = make(chan struct{}, 1)
	h.list = slices.DeleteFunc(h.list, func(e entry) bool {
		if e.msg.Context().Err() == nil {
			return false
		}
		h.bytes -= size(e.msg)
		e.msg.Nack()
		return true
	})
	h.next = max(h.next, at, ahead, time.Now().UnixNano())
	if len(h.list) > 0 && h.list[0].offset < at { // the store knows more than Commit was told
		for i := range h.list {
			h.list[i].offset = h.next
			h.next++
		}
	}
	return slices.Clone(h.list)
}

// add takes a message over.
func (h *held) add(m *message.Message) entry {
	h.mu.Lock()
	defer h.mu.Unlock()
	e := entry{h.next, m}
	h.next++
	h.list = append(h.list, e)
	h.bytes += size(m)
	return e
}

// full tells whether no more may be taken for now.
func (h *held) full(most int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.list) >= most || h.bytes >= maxUncommittedBytes
}

// ack acknowledges what comes before next (rule A3).
func (h *held) ack(next leat.Offset) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for n < len(h.list) && h.list[n].offset < next {
		n++
	}
	if n == 0 {
		return
	}
	h.acked = h.acked[:0]
	for _, e := range h.list[:n] {
		e.msg.Ack()
		h.bytes -= size(e.msg)
		h.acked = append(h.acked, e.msg)
	}
	h.list = slices.Delete(h.list, 0, n)
	select {
	case h.room <- struct{}{}:
	default:
	}
}

// giveBack nacks everything, and returns the messages acknowledged last.
func (h *held) giveBack() (nacked int, acked []*message.Message) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.list {
		e.msg.Nack()
	}
	nacked, acked = len(h.list), h.acked
	h.list, h.acked, h.bytes = nil, nil, 0
	return nacked, acked
}

// size is about what a message takes.
func size(m *message.Message) int64 {
	n := len(m.Payload) + len(m.UUID) + 200
	for k, v := range m.Metadata {
		n += len(k) + len(v) + 48
	}
	return int64(n)
}
