package stage

import (
	"slices"
	"sync"
)

// slots bounds how many calls run at once. Who waits does so on a channel of its own and
// none is made before: so a stage that was made outside of a bubble of testing/synctest
// can be tested inside of one, and in the next one too.
type slots struct {
	n int

	mu      sync.Mutex
	taken   int
	waiting []chan<- struct{}
}

// ask sends to granted, which must have room for it, once there is a slot.
func (s *slots) ask(granted chan<- struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.taken < s.n {
		s.taken++
		granted <- struct{}{}
		return
	}
	s.waiting = append(s.waiting, granted)
}

// cancel takes an ask back whose grant nobody has received.
func (s *slots) cancel(granted chan struct{}) {
	s.mu.Lock()
	i := slices.Index(s.waiting, (chan<- struct{})(granted))
	if i >= 0 {
		s.waiting = slices.Delete(s.waiting, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // it was granted meanwhile
		<-granted
		s.give()
	}
}

// give frees a slot, for the one that has waited longest.
func (s *slots) give() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		s.taken--
		return
	}
	s.waiting[0] <- struct{}{}
	s.waiting = slices.Delete(s.waiting, 0, 1)
}
