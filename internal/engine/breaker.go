package engine

import "fmt"

// breaker watches the share of rejected rows in a sliding window (rule B7). Its
// verdict depends on the rows and their order only, not on batches.
type breaker struct {
	share    float64
	least    int
	ring     []bool
	at       int
	seen     int // rows in the ring, which may be smaller than least
	rejected int // of them
	total    int // rows ever seen
}

func newBreaker(c *Config) *breaker {
	if c.BreakerShare < 0 {
		return nil
	}
	return &breaker{share: c.BreakerShare, least: c.BreakerMin, ring: make([]bool, c.BreakerWindow)}
}

// rows feeds n rows of which those in bad (ascending indices) were rejected.
func (b *breaker) rows(n int, bad []int) error {
	if b == nil {
		return nil
	}
	at := 0
	for _, i := range bad {
		b.good(i - at)
		if err := b.bad(); err != nil {
			return err
		}
		at = i + 1
	}
	b.good(n - at)
	return nil
}

func (b *breaker) good(n int) {
	if n <= 0 {
		return
	}
	b.total += n
	if b.rejected == 0 { // the usual case costs nothing per row
		b.seen = min(b.seen+n, len(b.ring))
		b.at = (b.at + n) % len(b.ring)
		return
	}
	for range min(n, len(b.ring)) {
		b.push(false)
	}
}

func (b *breaker) bad() error {
	b.push(true)
	b.total++
	if b.total >= b.least && float64(b.rejected) > b.share*float64(b.seen) {
		return fmt.Errorf("%w: %d of the last %d rows were rejected, more than the share of %g (rule B7); "+
			"nothing after the last checkpoint is kept; look at the dead letters, mend the input or the contract, or set Config.Breaker",
			ErrBreakerOpen, b.rejected, b.seen, b.share)
	}
	return nil
}

func (b *breaker) push(bad bool) {
	if b.seen == len(b.ring) {
		if b.ring[b.at] {
			b.rejected--
		}
	} else {
		b.seen++
	}
	b.ring[b.at] = bad
	if bad {
		b.rejected++
	}
	b.at = (b.at + 1) % len(b.ring)
}
