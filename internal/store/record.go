package store

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math"
	"slices"
	"sort"
	"strings"
	"unicode/utf8"

	"go.etcd.io/bbolt"
)

// A record is what every value in the file looks like:
//
//	byte 0     version of the record's layout
//	bytes 1-4  CRC-32C, little endian, over bucket, key, version and payload
//	bytes 5-   payload
//
// The checksum covers the place too, so that a value that turns up under another key (a damaged or misplaced page) is found
// out. bbolt itself has checksums on its two meta pages only.
const (
	recordVersion = 1
	recordHeader  = 5
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func recordSum(bucket, key []byte, version byte, payload []byte) uint32 {
	var frame [17]byte // lengths keep ("ab","c") apart from ("a","bc")
	binary.LittleEndian.PutUint64(frame[0:], uint64(len(bucket)))
	binary.LittleEndian.PutUint64(frame[8:], uint64(len(key)))
	frame[16] = version
	sum := crc32.Update(0, castagnoli, frame[:])
	sum = crc32.Update(sum, castagnoli, bucket)
	sum = crc32.Update(sum, castagnoli, key)
	return crc32.Update(sum, castagnoli, payload)
}

func encodeRecord(bucket, key, payload []byte) []byte {
	rec := make([]byte, recordHeader+len(payload))
	rec[0] = recordVersion
	binary.LittleEndian.PutUint32(rec[1:], recordSum(bucket, key, recordVersion, payload))
	copy(rec[recordHeader:], payload)
	return rec
}

// decodeRecord returns the payload, which is a part of rec.
func decodeRecord(bucket, key, rec []byte) ([]byte, error) {
	if len(rec) < recordHeader {
		return nil, fmt.Errorf("the record is cut off: %d bytes, at least %d expected", len(rec), recordHeader)
	}
	stored, computed := binary.LittleEndian.Uint32(rec[1:]), recordSum(bucket, key, rec[0], rec[recordHeader:])
	if stored != computed {
		return nil, fmt.Errorf("the checksum does not match: stored %08x, computed %08x over %d bytes",
			stored, computed, len(rec)-recordHeader)
	}
	// After the checksum: a damaged version byte is damage, an intact unknown one is another program's.
	if rec[0] != recordVersion {
		return nil, fmt.Errorf("the record has version %d, this program knows %d", rec[0], recordVersion)
	}
	return rec[recordHeader:], nil
}

type (
	stateKey struct{ stage, partition string }
	// extent says which blobs a state consists of, the numbers First <= n < Next, and their size.
	extent struct {
		First, Next uint64
		Size
	}
)

// head is the one record that says everything but the blobs: it is replaced as a whole by every commit, and it names the
// blobs that must be there. A damaged page can therefore not drop a partition, a counter or a piece of state unnoticed.
type head struct {
	Seq       uint64
	Positions map[string]Position
	Notes     map[string]Note
	Counters  map[string]int64
	State     map[stateKey]extent
}

func newHead() *head {
	return &head{Positions: map[string]Position{}, Notes: map[string]Note{}, Counters: map[string]int64{}, State: map[stateKey]extent{}}
}

// clone is a head that can be changed. Stages of notes are shared, and never changed in place.
func (h *head) clone() *head {
	return &head{h.Seq, maps.Clone(h.Positions), maps.Clone(h.Notes), h.Counters, maps.Clone(h.State)}
}

func (h *head) saved() Saved {
	s := Saved{Seq: h.Seq, Positions: h.Positions, Counters: h.Counters}
	if len(h.Notes) > 0 {
		s.Notes = h.Notes
	}
	return s
}

// The JSON of a head. Lists and not objects, because names may be any bytes (see text) and are sorted for the reader.
type (
	headJSON struct {
		Seq       uint64         `json:"seq"`
		Positions []positionJSON `json:"positions"`
		Notes     []noteJSON     `json:"notes"`
		Counters  []counterJSON  `json:"counters"`
		State     []stateJSON    `json:"state"`
	}
	positionJSON struct {
		Partition text  `json:"partition"`
		Next      int64 `json:"next"`
		Resume    text  `json:"resume,omitempty"`
		Log       text  `json:"log,omitempty"`
	}
	noteJSON struct {
		Partition text        `json:"partition"`
		Clean     bool        `json:"clean,omitempty"`
		Stages    []printJSON `json:"stages"` // null: nobody has said
	}
	printJSON struct {
		Stage       text `json:"stage"`
		Fingerprint text `json:"fingerprint,omitempty"`
	}
	counterJSON struct {
		Name  text  `json:"name"`
		Value int64 `json:"value"`
	}
	stateJSON struct {
		Stage     text   `json:"stage"`
		Partition text   `json:"partition"`
		First     uint64 `json:"first"`
		Next      uint64 `json:"next"`
		Snapshot  int64  `json:"snapshot,omitempty"` // bytes
		Deltas    int64  `json:"deltas,omitempty"`
	}
)

func encodeHead(h *head) ([]byte, error) {
	j := headJSON{
		Seq:       h.Seq,
		Positions: make([]positionJSON, 0, len(h.Positions)),
		Notes:     make([]noteJSON, 0, len(h.Notes)),
		Counters:  make([]counterJSON, 0, len(h.Counters)),
		State:     make([]stateJSON, 0, len(h.State)),
	}
	for name, p := range h.Positions {
		j.Positions = append(j.Positions, positionJSON{text(name), p.Next, text(p.Resume), text(p.Log)})
	}
	for name, n := range h.Notes {
		nj := noteJSON{Partition: text(name), Clean: n.Clean}
		if n.Stages != nil {
			nj.Stages = []printJSON{}
		}
		for _, stage := range slices.Sorted(maps.Keys(n.Stages)) {
			nj.Stages = append(nj.Stages, printJSON{text(stage), text(n.Stages[stage])})
		}
		j.Notes = append(j.Notes, nj)
	}
	for name, v := range h.Counters {
		j.Counters = append(j.Counters, counterJSON{text(name), v})
	}
	for k, e := range h.State {
		j.State = append(j.State, stateJSON{text(k.stage), text(k.partition), e.First, e.Next, e.Snapshot, e.Deltas})
	}
	sort.Slice(j.Positions, func(a, b int) bool { return j.Positions[a].Partition < j.Positions[b].Partition })
	sort.Slice(j.Notes, func(a, b int) bool { return j.Notes[a].Partition < j.Notes[b].Partition })
	sort.Slice(j.Counters, func(a, b int) bool { return j.Counters[a].Name < j.Counters[b].Name })
	sort.Slice(j.State, func(a, b int) bool {
		x, y := j.State[a], j.State[b]
		return x.Stage < y.Stage || x.Stage == y.Stage && x.Partition < y.Partition
	})
	return json.Marshal(j)
}

func decodeHead(payload []byte) (*head, error) {
	var j headJSON
	dec := json.NewDecoder(bytes.NewReader(payload))
	dec.DisallowUnknownFields() // a field we do not know is a promise we cannot keep
	if err := dec.Decode(&j); err != nil {
		return nil, fmt.Errorf("the content is not what this program writes: %w", err)
	}
	h := newHead()
	h.Seq = j.Seq
	for _, p := range j.Positions {
		h.Positions[string(p.Partition)] = Position{p.Next, string(p.Resume), string(p.Log)}
	}
	for _, n := range j.Notes {
		note := Note{Clean: n.Clean}
		if n.Stages != nil {
			note.Stages = map[string]string{}
		}
		for _, p := range n.Stages {
			note.Stages[string(p.Stage)] = string(p.Fingerprint)
		}
		if len(note.Stages) != len(n.Stages) {
			return nil, errors.New("the content names something twice")
		}
		h.Notes[string(n.Partition)] = note
	}
	for _, c := range j.Counters {
		h.Counters[string(c.Name)] = c.Value
	}
	for _, s := range j.State {
		if s.First >= s.Next {
			return nil, fmt.Errorf("the state of stage %q, partition %q has no pieces", s.Stage, s.Partition)
		}
		h.State[stateKey{string(s.Stage), string(s.Partition)}] = extent{s.First, s.Next, Size{int(s.Next - s.First), s.Snapshot, s.Deltas}}
	}
	if len(h.Positions) != len(j.Positions) || len(h.Notes) != len(j.Notes) || len(h.Counters) != len(j.Counters) || len(h.State) != len(j.State) {
		return nil, errors.New("the content names something twice")
	}
	return h, nil
}

// text is a string of any bytes in JSON. encoding/json replaces what is not UTF-8 by U+FFFD, and a Resume is opaque to the
// engine: it must come back byte for byte. Such strings are written as "base64:…", and so are those that begin like that.
type text string

const base64Prefix = "base64:"

func (t text) MarshalJSON() ([]byte, error) {
	s := string(t)
	if !utf8.ValidString(s) || strings.HasPrefix(s, base64Prefix) {
		s = base64Prefix + base64.StdEncoding.EncodeToString([]byte(s))
	}
	return json.Marshal(s)
}

func (t *text) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if enc, ok := strings.CutPrefix(s, base64Prefix); ok {
		raw, err := base64.StdEncoding.DecodeString(enc)
		if err != nil {
			return err
		}
		s = string(raw)
	}
	*t = text(s)
	return nil
}

// A piece of state is stored in parts of at most partSize bytes. bbolt keeps neighbours together on one page, of which it
// writes all when one of them changes: without parts, a delta of a few bytes could cost the snapshot beside it.
const partSize = 16 << 10

// partKey names a part of piece n of a state. The lengths keep ("ab","c") apart from ("a","bc"); big endian keeps order.
func partKey(k stateKey, n uint64, part uint32) []byte {
	b := make([]byte, 0, len(k.stage)+len(k.partition)+2*binary.MaxVarintLen32+12)
	b = binary.AppendUvarint(b, uint64(len(k.stage)))
	b = append(b, k.stage...)
	b = binary.AppendUvarint(b, uint64(len(k.partition)))
	b = append(b, k.partition...)
	b = binary.BigEndian.AppendUint64(b, n)
	return binary.BigEndian.AppendUint32(b, part)
}

// putPiece stores a piece: its first part says how long the whole is.
func putPiece(state *bbolt.Bucket, k stateKey, n uint64, blob []byte) error {
	return putParts(state, k, n, blob, 0, len(blob)/partSize+1)
}

// putParts stores so many parts of a piece, from first on, or those that there are.
func putParts(state *bbolt.Bucket, k stateKey, n uint64, blob []byte, first, parts int) error {
	for part := first; part < first+parts; part++ {
		from := part * partSize
		if from >= len(blob) && part > 0 {
			return nil
		}
		payload := blob[from:min(len(blob), from+partSize)]
		if part == 0 {
			payload = append(binary.AppendUvarint(nil, uint64(len(blob))), payload...)
		}
		key := partKey(k, n, uint32(part))
		if err := state.Put(key, encodeRecord(stateBucket, key, payload)); err != nil {
			return err
		}
	}
	return nil
}

// getPiece returns a copy of a piece.
func getPiece(tx *bbolt.Tx, k stateKey, n uint64) ([]byte, error) {
	payload, err := get(tx, stateBucket, partKey(k, n, 0))
	if err != nil {
		return nil, err
	}
	length, head := binary.Uvarint(payload)
	if head <= 0 || length > math.MaxInt {
		return nil, errors.New("the length of the piece is missing")
	}
	blob := append(make([]byte, 0, length), payload[head:]...)
	for part := uint32(1); uint64(len(blob)) < length; part++ {
		payload, err := get(tx, stateBucket, partKey(k, n, part))
		if err == nil && len(payload) == 0 {
			err = errors.New("the part is empty")
		}
		if err != nil {
			return nil, fmt.Errorf("part %d: %w", part, err)
		}
		blob = append(blob, payload...)
	}
	if uint64(len(blob)) != length {
		return nil, fmt.Errorf("the piece has %d bytes and should have %d", len(blob), length)
	}
	return blob, nil
}

// removePieces removes the pieces of an extent, whatever they look like.
func removePieces(state *bbolt.Bucket, k stateKey, e extent) error {
	var keys [][]byte
	c, end := state.Cursor(), partKey(k, e.Next, 0)
	for key, _ := c.Seek(partKey(k, e.First, 0)); key != nil && bytes.Compare(key, end) < 0; key, _ = c.Next() {
		keys = append(keys, bytes.Clone(key)) // a cursor does not survive changes
	}
	for _, key := range keys {
		if err := state.Delete(key); err != nil {
			return err
		}
	}
	return nil
}

// Text is text, for other files that have to keep such strings.
type Text = text
