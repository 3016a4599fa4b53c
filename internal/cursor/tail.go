package cursor

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// tailRows is how many of the last keys are known: from so many to twice as many.
const tailRows = 1000

// Tail is what was read of a table that is read by a unique integer: the last key, and
// of the keys before it enough to tell whether any has appeared or gone since.
type Tail struct {
	Last int64 // the highest key that was read
	Some bool  // there is one

	keys []int64 // the last of them, ascending
	mark *Mark   // what is known instead, of a position
}

// Restore makes t what it was when m was taken, but for the keys themselves: see Keys.
func (t *Tail) Restore(m Mark) { *t = Tail{Last: m.Last, Some: true, mark: &m} }

// Add takes note of a row; keys must rise.
func (t *Tail) Add(key int64) {
	t.Last, t.Some, t.mark = key, true, nil
	if len(t.keys) >= 2*tailRows {
		t.keys = append(t.keys[:0], t.keys[len(t.keys)-tailRows:]...)
	}
	t.keys = append(t.keys, key)
}

// Mark is a Tail in short.
type Mark struct {
	Last int64  `json:"last"`
	From int64  `json:"from"` // the keys From to Last are N, with this checksum
	N    int    `json:"n"`
	Sum  uint64 `json:"sum"`
}

// Mark gives the tail in short. There must be a key.
func (t *Tail) Mark() Mark {
	if t.mark != nil {
		return *t.mark
	}
	m := Mark{Last: t.Last, From: t.Last + 1}
	for i, k := range t.keys {
		if i == 0 {
			m.From = k
		}
		m.N++
		m.Sum += mix(uint64(k))
	}
	return m
}

// Keys replaces the keys that are known by those from m.From to m.Last, ascending.
func (t *Tail) Keys(m Mark, keys []int64) {
	t.Last, t.Some, t.mark = m.Last, true, nil
	t.keys = append(t.keys[:0], keys[max(0, len(keys)-tailRows):]...)
}

// Sum gives count and checksum of keys.
func Sum(keys []int64) (n int, sum uint64) {
	for _, k := range keys {
		sum += mix(uint64(k))
	}
	return len(keys), sum
}

// mix spreads the bits of a key (splitmix64), so that sums differ when keys do.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// Encode gives the mark as text that DecodeMark reads: what Position.Resume carries.
func (m Mark) Encode() string {
	js, err := json.Marshal(m)
	if err != nil { // can't be
		panic(err)
	}
	return seal(js)
}

// DecodeMark reads what Encode wrote.
func DecodeMark(text string) (Mark, error) {
	var m Mark
	js, err := unseal(text)
	if err != nil {
		return m, err
	}
	d := json.NewDecoder(bytes.NewReader(js))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil {
		return m, fmt.Errorf("it can't be read: %w", err)
	}
	if d.More() || m.N < 0 || m.N > 2*tailRows || m.N > 0 && m.From > m.Last {
		return m, errors.New("it makes no sense")
	}
	return m, nil
}
