package state

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/store"
)

// partSize is the most that one row of pieces holds.
const partSize = 1 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sum is over the fields with their lengths, which keep ("ab","c") apart from ("a","bc").
func sum(fields ...[]byte) int64 {
	var crc uint32
	for _, f := range fields {
		crc = crc32.Update(crc, castagnoli, binary.AppendUvarint(nil, uint64(len(f))))
		crc = crc32.Update(crc, castagnoli, f)
	}
	return int64(crc)
}

func number(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

// record is the row of a partition, without who owns it.
type record struct {
	begun   bool
	at      leat.Position
	note    leat.StateNote
	extents map[string]extent // of state, by stage; none is empty
}

// extent is which pieces of state there are: First <= n < Next.
type extent struct {
	First int64 `json:"first"`
	Next  int64 `json:"next"`
	Whole int64 `json:"whole"` // bytes, as in leat.StateExtent
	Rest  int64 `json:"rest"`
}

func (e extent) size() leat.StateExtent {
	return leat.StateExtent{Pieces: int(e.Next - e.First), Whole: e.Whole, Rest: e.Rest}
}

// add counts one more piece.
func (e *extent) add(bytes int, whole bool) {
	if whole {
		e.First, e.Whole, e.Rest = e.Next, int64(bytes), 0
	} else {
		e.Rest += int64(bytes)
	}
	e.Next++
}

// stateJSON is the column state. Fingerprints may be any bytes.
type stateJSON struct {
	Clean  bool              `json:"clean"`
	Stages map[string][]byte `json:"stages"` // null: nobody has said
	Pieces map[string]extent `json:"pieces"`
}

// row is a record as the table has it.
type row struct {
	next        *int64
	resume, log []byte
	state       string
	sum         int64
}

func (r *record) encode(pipeline, partition string) (row, error) {
	j := stateJSON{Clean: r.note.Clean, Pieces: r.extents}
	if r.note.Stages != nil {
		j.Stages = map[string][]byte{}
	}
	for stage, print := range r.note.Stages {
		j.Stages[stage] = []byte(print)
	}
	text, err := json.Marshal(j)
	if err != nil {
		return row{}, err
	}
	next := int64(r.at.Next)
	out := row{next: &next, resume: []byte(r.at.Resume), log: []byte(r.at.Log), state: string(text)}
	out.sum = out.checksum(pipeline, partition)
	return out, nil
}

func (r *row) checksum(pipeline, partition string) int64 {
	return sum([]byte(pipeline), []byte(partition), number(*r.next), r.resume, r.log, []byte(r.state))
}

func (r *row) decode(pipeline, partition string, version int64) (*record, error) {
	out := &record{extents: map[string]extent{}}
	if r.next == nil {
		if version != 0 || r.state != "" || len(r.resume)+len(r.log) > 0 {
			return nil, fmt.Errorf("the position is missing")
		}
		return out, nil
	}
	if got := r.checksum(pipeline, partition); got != r.sum {
		return nil, fmt.Errorf("the checksum does not match: stored %d, computed %d", r.sum, got)
	}
	var j stateJSON
	dec := json.NewDecoder(strings.NewReader(r.state))
	dec.DisallowUnknownFields() // a field we do not know is a promise we cannot keep
	if err := dec.Decode(&j); err != nil {
		return nil, fmt.Errorf("the column state is not what this program writes: %w", err)
	}
	out.begun = true
	out.at = leat.Position{Next: leat.Offset(*r.next), Resume: string(r.resume), Log: string(r.log)}
	out.note.Clean = j.Clean
	if j.Stages != nil {
		out.note.Stages = map[string]string{}
	}
	for stage, print := range j.Stages {
		out.note.Stages[stage] = string(print)
	}
	for stage, e := range j.Pieces {
		if e.First >= e.Next {
			return nil, fmt.Errorf("the state of stage %q has no pieces", stage)
		}
	}
	maps.Copy(out.extents, j.Pieces)
	return out, nil
}

// name refuses what the database can't hold as a name.
func name(what, s string) error {
	if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
		return ownError("%s %q: PostgreSQL can't hold such a name", what, s)
	}
	return nil
}

// pieceKey is where a piece is.
type pieceKey struct {
	pipeline, partition, stage string
	n                          int64
}

func (k pieceKey) sum(part, parts int, data []byte) int64 {
	return sum([]byte(k.pipeline), []byte(k.partition), []byte(k.stage), number(k.n), number(int64(part)), number(int64(parts)), data)
}

// joiner puts the parts of pieces together, which come in order.
type joiner struct {
	pieces [][]byte
	open   [][]byte // parts of a piece that is not whole yet
}

func (j *joiner) add(k pieceKey, part, parts int, data []byte, stored int64) error {
	if got := k.sum(part, parts, data); got != stored {
		return fmt.Errorf("piece %d, part %d: the checksum does not match: stored %d, computed %d", k.n, part, stored, got)
	}
	if part != len(j.open) || part >= parts {
		return fmt.Errorf("piece %d: part %d of %d comes where part %d should be", k.n, part, parts, len(j.open))
	}
	if j.open = append(j.open, data); len(j.open) < parts {
		return nil
	}
	whole := j.open[0]
	if parts > 1 {
		whole = bytes.Join(j.open, nil)
	}
	j.pieces, j.open = append(j.pieces, whole), nil
	return nil
}

// end checks that all pieces of e have come.
func (j *joiner) end(e extent) error {
	if len(j.open) > 0 || int64(len(j.pieces)) != e.Next-e.First {
		return fmt.Errorf("there are %d whole pieces and should be %d, from %d on", len(j.pieces), e.Next-e.First, e.First)
	}
	var bytes int64
	for _, p := range j.pieces {
		bytes += int64(len(p))
	}
	if bytes != e.Whole+e.Rest {
		return fmt.Errorf("the pieces have %d bytes and should have %d", bytes, e.Whole+e.Rest)
	}
	return nil
}

func toStore(p leat.Position) store.Position {
	return store.Position{Next: int64(p.Next), Resume: p.Resume, Log: p.Log}
}

func fromStore(p store.Position) leat.Position {
	return leat.Position{Next: leat.Offset(p.Next), Resume: p.Resume, Log: p.Log}
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
