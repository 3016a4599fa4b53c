package cursor

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Place is where a row stands in the order of the reading.
type Place struct {
	At  []Value // of the cursor's columns
	Key []Value // of the key's columns that are not among the cursor's; empty: At is unique
}

// Equal tells whether both are the same place.
func (p Place) Equal(q Place) bool { return equal(p.At, q.At) && equal(p.Key, q.Key) }

// State is what has been read. It is not safe for concurrent use.
type State struct {
	// Max is how many rows are remembered one by one.
	Max int

	// Width is how far below the highest value rows are remembered; 0: only those of
	// that value. Measure then gives the distance of values, for the first column.
	Width   int64
	Measure func(Value) (int64, error)

	Rows int64 // that were read in all: the number of the next one
	High Place // the highest that was read; High.At is nil before the first row

	seen   map[hash]int64 // rows of the window, and their measure if there is a Width
	floor  int64          // the window's lower end, with a Width
	next   int            // rows in seen at which it is swept the next time
	folded bool           // only count and sum are known: there were more than Max
	count  int64          // rows at High.At up to High, when folded
	sum    [2]uint64
}

type hash [16]byte // rule C3

func (p Place) hash() hash {
	var room [64]byte
	b := room[:0]
	for _, v := range p.At {
		b = v.append(b)
	}
	for _, v := range p.Key {
		b = v.append(b)
	}
	h := sha256.Sum256(b)
	return hash(h[:16])
}

// Started tells whether anything has been read.
func (s *State) Started() bool { return len(s.High.At) > 0 }

// Folded tells that the rows at High.At are known by number only: see Check.
func (s *State) Folded() bool { return s.folded }

// Seen tells whether the row at p was read. It knows those of the window only.
func (s *State) Seen(p Place) bool {
	_, ok := s.seen[p.hash()]
	return ok
}

// Floor is the lower end of the window, as a measure, for a State with a Width.
func (s *State) Floor() int64 { return s.floor }

// TooManyError is returned when more rows lie in the window than may be remembered.
type TooManyError struct{ Max int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("more than %d rows lie within the overlap, and that is how many are remembered", e.Max)
}

// Ahead takes note of a row that comes after High, in the order of the reading. It keeps
// nothing of p.
func (s *State) Ahead(p Place) error {
	same := s.Started() && equal(s.High.At, p.At)
	var measure int64
	if s.Width > 0 {
		var err error
		if measure, err = s.Measure(p.At[0]); err != nil {
			return err
		}
		if s.floor = measure - s.Width; s.floor > measure { // below the least number
			s.floor = math.MinInt64
		}
	} else if !same {
		clear(s.seen)
		s.folded, s.count, s.sum = false, 0, [2]uint64{}
	}
	s.High = Place{append(s.High.At[:0], p.At...), append(s.High.Key[:0], p.Key...)}
	s.Rows++
	if len(p.Key) == 0 && s.Width == 0 {
		return nil // it is the only one of its value
	}
	return s.note(p, measure)
}

// Late takes note of a row that has appeared before High.
func (s *State) Late(p Place) error {
	var measure int64
	if s.Width > 0 {
		var err error
		if measure, err = s.Measure(p.At[0]); err != nil {
			return err
		}
	}
	s.Rows++
	return s.note(p, measure)
}

func (s *State) note(p Place, measure int64) error {
	h := p.hash()
	if s.folded {
		s.add(h)
		return nil
	}
	if s.seen == nil {
		s.seen = make(map[hash]int64)
	}
	s.seen[h] = measure
	if len(s.seen) <= s.Max && len(s.seen) < max(s.next, 1024) {
		return nil
	}
	if s.Width > 0 {
		s.sweep()
		s.next = 2 * len(s.seen)
		if len(s.seen) > s.Max {
			return &TooManyError{s.Max}
		}
		return nil
	}
	if len(s.seen) > s.Max {
		s.folded = true
		for h := range s.seen {
			s.add(h)
		}
		clear(s.seen)
	}
	return nil
}

func (s *State) add(h hash) {
	s.count++
	s.sum[0] += binary.LittleEndian.Uint64(h[:8])
	s.sum[1] += binary.LittleEndian.Uint64(h[8:])
}

// sweep forgets what has left the window.
func (s *State) sweep() {
	for h, m := range s.seen {
		if m < s.floor {
			delete(s.seen, h)
		}
	}
}

// Check is a second look at rows that are known by number only.
type Check struct{ State }

// Add takes one of the rows at High.At up to High.
func (c *Check) Add(p Place) { c.add(p.hash()) }

// Same tells whether the rows are those that the state has read.
func (c *Check) Same(s *State) bool { return c.count == s.count && c.sum == s.sum }

// Reread forgets the rows at High.At, which are then to be read from the first on.
func (s *State) Reread() {
	s.High.Key = s.High.Key[:0]
	s.folded, s.count, s.sum = false, 0, [2]uint64{}
	clear(s.seen)
}

// FromStart tells that the rows at High.At are to be read from the first on.
func (s *State) FromStart(keyed bool) bool { return keyed && len(s.High.Key) == 0 }

// resume is a State as text.
type resume struct {
	Rows  int64      `json:"rows"`
	At    []Value    `json:"at,omitempty"`
	Key   []Value    `json:"key,omitempty"`
	Seen  string     `json:"seen,omitempty"`  // when it is more than the row at High
	Count int64      `json:"count,omitempty"` // folded
	Sum   *[2]uint64 `json:"sum,omitempty"`
}

// Encode gives the state as text that Decode reads: what Position.Resume carries.
func (s *State) Encode() string {
	r := resume{Rows: s.Rows, At: s.High.At, Key: s.High.Key}
	if s.folded {
		sum := s.sum
		r.Count, r.Sum = s.count, &sum
	}
	if s.Width > 0 {
		s.sweep()
	}
	_, high := s.seen[s.High.hash()]
	if n := len(s.seen); n > 1 || n == 1 && !high {
		type entry struct {
			m int64
			h hash
		}
		entries := make([]entry, 0, n)
		for h, m := range s.seen {
			entries = append(entries, entry{m, h})
		}
		slices.SortFunc(entries, func(a, b entry) int {
			switch {
			case a.m < b.m:
				return -1
			case a.m > b.m:
				return 1
			}
			return bytes.Compare(a.h[:], b.h[:])
		})
		b := make([]byte, 0, n*20)
		last := int64(0)
		for _, e := range entries {
			b = binary.AppendVarint(b, e.m-last) // wraps around, and back
			b = append(b, e.h[:]...)
			last = e.m
		}
		r.Seen = base64.RawStdEncoding.EncodeToString(b)
	}
	js, err := json.Marshal(r)
	if err != nil { // can't be
		panic(err)
	}
	return seal(js)
}

// Decode reads what Encode wrote, after the first row, into s, whose Max, Width and Measure are set. at and
// keys are how many values the cursor and the key have.
func (s *State) Decode(text string, at, keys int) error {
	js, err := unseal(text)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(js))
	d.DisallowUnknownFields()
	var r resume
	if err := d.Decode(&r); err != nil {
		return fmt.Errorf("it can't be read: %w", err)
	}
	if d.More() {
		return errors.New("something follows it")
	}
	if r.Rows < 1 || len(r.At) != at || len(r.Key) != keys && len(r.Key) != 0 || (r.Sum == nil) != (r.Count == 0) || r.Count < 0 {
		return fmt.Errorf("it is of a cursor of %d columns and a key of %d, and this one has %d and %d", len(r.At), len(r.Key), at, keys)
	}
	s.Rows, s.High = r.Rows, Place{r.At, r.Key}
	s.seen, s.next = make(map[hash]int64), 0
	if s.folded = r.Sum != nil; s.folded {
		s.count, s.sum = r.Count, *r.Sum
	}
	measure := int64(0)
	if s.Width > 0 {
		if measure, err = s.Measure(r.At[0]); err != nil {
			return err
		}
		if s.floor = measure - s.Width; s.floor > measure {
			s.floor = math.MinInt64
		}
	}
	b, err := base64.RawStdEncoding.DecodeString(r.Seen)
	if err != nil {
		return fmt.Errorf("the rows that were seen can't be read: %w", err)
	}
	last := int64(0)
	for len(b) > 0 {
		diff, n := binary.Varint(b)
		if n <= 0 || len(b) < n+len(hash{}) {
			return errors.New("the rows that were seen are cut off")
		}
		last += diff
		s.seen[hash(b[n:n+len(hash{})])] = last
		b = b[n+len(hash{}):]
	}
	if (keys == 0 || len(r.Key) > 0) && !s.folded && (keys > 0 || s.Width > 0) {
		s.seen[s.High.hash()] = measure
	}
	return nil
}
