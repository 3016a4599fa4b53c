package lake

import (
	"sync/atomic"
	"time"
)

// Day makes a Partition's Value of a row's time: the day in UTC, as 2006-01-02. The zero time
// is no day, which readers see as null. Days come again and again, so their texts are kept.
func Day[T any](at func(T) time.Time) func(T) string {
	type text struct {
		day int64 // since 1970
		s   string
	}
	if at == nil {
		return nil // which Faults names
	}
	var known [64]atomic.Pointer[text] // by the last bits of day; a Value may be that of several sinks
	return func(row T) string {
		t := at(row)
		if t.IsZero() {
			return ""
		}
		if t.Unix() < 0 {
			return t.UTC().Format(time.DateOnly) // rare; the division would have to round down
		}
		day := t.Unix() / (24 * 60 * 60)
		slot := &known[day%int64(len(known))]
		if k := slot.Load(); k != nil && k.day == day {
			return k.s
		}
		s := t.UTC().Format(time.DateOnly)
		slot.Store(&text{day, s})
		return s
	}
}
