// Package statefile is the file in which saved state travels from one place to another:
// JSON lines, a head, the partitions, the pieces of state, and an end.
//
//	{"leat_state":1,"pipeline":"orders","seq":17,"counters":[…]}
//	{"partition":{"name":"orders/0","next":900,"resume":"…","log":"…","clean":true,"stages":[…]}}
//	{"piece":{"stage":"dedupe","partition":"orders/0","whole":true,"data":"base64","crc":…}}
//	{"end":{"lines":9,"sha256":"…"}}
//
// The end is over all bytes before it, so a file that is cut off or changed is refused; who
// reads one must keep nothing of it before [Reader.Next] has said io.EOF.
package statefile

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"maps"
	"slices"

	"github.com/leatgo/leat/internal/store"
)

const format = 1

// maxData bounds a line: longer pieces take several.
const maxData = 1 << 20

// ErrCorrupt says that a file is not one that was written to its end and kept as it was.
var ErrCorrupt = errors.New("the file with the state is damaged or cut off")

// Place is where state is kept: operate.StatePlace.
type Place interface {
	// ReadState writes all that the place has to w.
	ReadState(ctx context.Context, w *Writer) error
	// WriteState puts all that r gives into the place, which must be empty, or nothing.
	WriteState(ctx context.Context, r *Reader) error
}

// Head is what a file begins with.
type Head struct {
	Pipeline string // "" in a state folder, which is of one pipeline
	Stage    string // of which stage alone there are pieces; "": of all
	Seq      uint64
	Counters map[string]int64
}

// Partition is where a partition stands.
type Partition struct {
	Name     string
	Position store.Position
	Note     store.Note
}

// Record is one thing that a file holds; one field is set.
type Record struct {
	Partition *Partition
	Piece     *store.Delta
}

type (
	line struct {
		Format    int            `json:"leat_state,omitempty"`
		Pipeline  store.Text     `json:"pipeline,omitempty"`
		Stage     store.Text     `json:"only_stage,omitempty"`
		Seq       uint64         `json:"seq,omitempty"`
		Counters  []counterJSON  `json:"counters,omitempty"`
		Partition *partitionJSON `json:"partition,omitempty"`
		Piece     *pieceJSON     `json:"piece,omitempty"`
		End       *endJSON       `json:"end,omitempty"`
	}
	counterJSON struct {
		Name  store.Text `json:"name"`
		Value int64      `json:"value"`
	}
	partitionJSON struct {
		Name   store.Text  `json:"name"`
		Next   int64       `json:"next"`
		Resume store.Text  `json:"resume"`
		Log    store.Text  `json:"log"`
		Clean  bool        `json:"clean"`
		Stages []stageJSON `json:"stages"` // null: nobody has said
	}
	stageJSON struct {
		Name        store.Text `json:"name"`
		Fingerprint store.Text `json:"fingerprint"`
	}
	pieceJSON struct {
		Stage     store.Text `json:"stage"`
		Partition store.Text `json:"partition"`
		Whole     bool       `json:"whole"`
		More      bool       `json:"more,omitempty"` // the piece goes on in the next line
		Data      []byte     `json:"data"`
		CRC       uint32     `json:"crc"` // CRC-32C of data
	}
	endJSON struct {
		Lines int    `json:"lines"` // before this one
		Sum   string `json:"sha256"`
	}
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Writer writes a file.
type Writer struct {
	out    *bufio.Writer
	sum    hash.Hash
	stage  string
	lines  int
	pieces int
	bytes  int64
	parts  int
}

// NewWriter begins a file. Pieces of other stages than stage are left out, unless it is "".
func NewWriter(w io.Writer, stage string) *Writer {
	return &Writer{out: bufio.NewWriterSize(w, 64<<10), sum: sha256.New(), stage: stage}
}

func (w *Writer) line(l line) error {
	b, err := json.Marshal(l)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	w.sum.Write(b)
	w.lines++
	_, err = w.out.Write(b)
	return err
}

// Head comes first.
func (w *Writer) Head(h Head) error {
	l := line{Format: format, Pipeline: store.Text(h.Pipeline), Stage: store.Text(w.stage), Seq: h.Seq}
	for _, name := range slices.Sorted(maps.Keys(h.Counters)) {
		l.Counters = append(l.Counters, counterJSON{store.Text(name), h.Counters[name]})
	}
	return w.line(l)
}

// Partition comes before the pieces.
func (w *Writer) Partition(p Partition) error {
	w.parts++
	j := partitionJSON{store.Text(p.Name), p.Position.Next, store.Text(p.Position.Resume), store.Text(p.Position.Log), p.Note.Clean, nil}
	if p.Note.Stages != nil {
		j.Stages = []stageJSON{}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Note.Stages)) {
		j.Stages = append(j.Stages, stageJSON{store.Text(name), store.Text(p.Note.Stages[name])})
	}
	return w.line(line{Partition: &j})
}

// Piece writes one piece; those of a state come oldest first.
func (w *Writer) Piece(d store.Delta) error {
	if w.stage != "" && d.Stage != w.stage {
		return nil
	}
	w.pieces++
	w.bytes += int64(len(d.Blob))
	for rest := d.Blob; ; {
		data := rest[:min(len(rest), maxData)]
		rest = rest[len(data):]
		err := w.line(line{Piece: &pieceJSON{store.Text(d.Stage), store.Text(d.Partition), d.Full, len(rest) > 0, data, crc32.Checksum(data, castagnoli)}})
		if err != nil || len(rest) == 0 {
			return err
		}
	}
}

// End ends the file. It tells how much was written.
func (w *Writer) End() (partitions, pieces int, bytes int64, _ error) {
	err := w.line(line{End: &endJSON{w.lines, hex.EncodeToString(w.sum.Sum(nil))}})
	return w.parts, w.pieces, w.bytes, errors.Join(err, w.out.Flush())
}

// Reader reads a file.
type Reader struct {
	in    *bufio.Reader
	sum   hash.Hash
	lines int
	head  Head
	ended bool
	given [2]int // partitions, pieces
	parts map[string]bool
	bytes int64
}

// NewReader reads the head of a file.
func NewReader(r io.Reader) (*Reader, error) {
	rd := &Reader{in: bufio.NewReaderSize(r, 64<<10), sum: sha256.New(), parts: map[string]bool{}}
	l, err := rd.line()
	switch {
	case err == nil && l.Format == 0, errors.Is(err, ErrCorrupt) && rd.lines <= 1:
		return nil, fmt.Errorf("%w: it does not begin as one", ErrCorrupt)
	case err != nil:
		return nil, err
	case l.Format > format:
		return nil, fmt.Errorf("the file with the state has format %d and this program knows up to %d: use the newer program", l.Format, format)
	}
	rd.head = Head{Pipeline: string(l.Pipeline), Stage: string(l.Stage), Seq: l.Seq, Counters: map[string]int64{}}
	for _, c := range l.Counters {
		rd.head.Counters[string(c.Name)] = c.Value
	}
	return rd, nil
}

// PeekPipeline tells whose state a file holds, and leaves r at its beginning.
func PeekPipeline(r *bufio.Reader) (string, error) {
	b, err := r.Peek(4 << 10) // the name comes early in the first line, whatever its counters
	if err != nil && err != io.EOF {
		return "", err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	for range 3 { // {, "leat_state", its value
		if _, err := dec.Token(); err != nil {
			return "", fmt.Errorf("%w: it does not begin as one", ErrCorrupt)
		}
	}
	if key, err := dec.Token(); err != nil || key != "pipeline" {
		return "", nil
	}
	var name store.Text
	if err := dec.Decode(&name); err != nil {
		return "", fmt.Errorf("%w: it does not begin as one", ErrCorrupt)
	}
	return string(name), nil
}

// Head is the file's.
func (r *Reader) Head() Head { return r.head }

func (r *Reader) line() (line, error) {
	var l line
	b, err := r.in.ReadBytes('\n')
	if err == io.EOF {
		return l, fmt.Errorf("%w: it ends after line %d", ErrCorrupt, r.lines)
	}
	if err != nil {
		return l, err
	}
	r.lines++
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&l); err != nil {
		return l, fmt.Errorf("%w: line %d is not of such a file", ErrCorrupt, r.lines)
	}
	if l.End == nil {
		r.sum.Write(b)
	}
	return l, nil
}

// Given tells how much Next has given.
func (r *Reader) Given() (partitions, pieces int, bytes int64) {
	return r.given[0], r.given[1], r.bytes
}

// Next gives the next partition or piece. io.EOF comes when the file is whole and at its
// end, and not before.
func (r *Reader) Next() (Record, error) {
	if r.ended {
		return Record{}, io.EOF
	}
	var piece *store.Delta
	for {
		l, err := r.line()
		if err != nil {
			return Record{}, err
		}
		bad := func(why string) (Record, error) {
			return Record{}, fmt.Errorf("%w: line %d: %s", ErrCorrupt, r.lines, why)
		}
		switch p := l.Piece; {
		case p != nil:
			if crc32.Checksum(p.Data, castagnoli) != p.CRC {
				return bad("the checksum does not match")
			}
			if piece == nil {
				piece = &store.Delta{Stage: string(p.Stage), Partition: string(p.Partition), Full: p.Whole}
			} else if piece.Stage != string(p.Stage) || piece.Partition != string(p.Partition) || piece.Full != p.Whole {
				return bad("it does not continue the piece before")
			}
			piece.Blob = append(piece.Blob, p.Data...)
			if !p.More {
				if !r.parts[piece.Partition] {
					return bad("a piece of state comes without the position of its partition")
				}
				r.given[1]++
				r.bytes += int64(len(piece.Blob))
				return Record{Piece: piece}, nil
			}
			continue
		case piece != nil:
			return bad("a piece is cut off")
		case l.Partition != nil:
			p := Partition{Name: string(l.Partition.Name), Position: store.Position{Next: l.Partition.Next, Resume: string(l.Partition.Resume), Log: string(l.Partition.Log)}}
			p.Note.Clean = l.Partition.Clean
			if l.Partition.Stages != nil {
				p.Note.Stages = map[string]string{}
			}
			for _, s := range l.Partition.Stages {
				p.Note.Stages[string(s.Name)] = string(s.Fingerprint)
			}
			if r.parts[p.Name] {
				return bad("a partition comes twice")
			}
			r.parts[p.Name] = true
			r.given[0]++
			return Record{Partition: &p}, nil
		case l.End != nil:
			if l.End.Lines != r.lines-1 || l.End.Sum != hex.EncodeToString(r.sum.Sum(nil)) {
				return bad("the checksum of the whole does not match")
			}
			if _, err := r.in.ReadByte(); err != io.EOF {
				return bad("something follows the end")
			}
			r.ended = true
			return Record{}, io.EOF
		}
		return bad("it is not of such a file")
	}
}
