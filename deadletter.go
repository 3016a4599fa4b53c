package leat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/jsonlines"
)

// DeadLetter is a rejected row: what it was, where it came from and why it was
// refused (rule B4). Its JSON form is one line of the dead-letter file.
type DeadLetter struct {
	ID        string            `json:"id"` // the same row refused by the same node has the same id (rule B3-2)
	Time      time.Time         `json:"time"`
	Pipeline  string            `json:"pipeline"`
	Version   string            `json:"version,omitempty"`
	Node      string            `json:"node"`
	Class     Class             `json:"class"`
	Error     string            `json:"error"`
	Column    string            `json:"column,omitempty"`
	Rule      string            `json:"rule,omitempty"`
	Stack     string            `json:"stack,omitempty"` // of a panic (rule A9)
	Attempt   int               `json:"attempt"`
	Source    string            `json:"source"`
	Partition string            `json:"partition"`
	Offset    Offset            `json:"offset"`
	Ordinal   int               `json:"ordinal,omitempty"` // among the rows made from one record, as they came to Node
	Without   []LetterStep      `json:"without,omitempty"` // rows of the record that nodes before Node had refused
	File      string            `json:"file,omitempty"`
	Line      int64             `json:"line,omitempty"`
	Topic     string            `json:"topic,omitempty"`
	Key       []byte            `json:"key,omitzero"`
	Headers   map[string]string `json:"headers,omitempty"`
	Header    string            `json:"header,omitempty"` // the CSV header line
	Raw       []byte            `json:"raw,omitzero"`     // the original bytes, base64 in JSON; nil: there were none, which is not the same as none left
	Sink      string            `json:"sink,omitempty"`   // when one sink of several refused it
	Row       json.RawMessage   `json:"row,omitempty"`    // when the row was decoded
	Arrived   time.Time         `json:"arrived,omitzero"` // the record, at its log or in its folder

	// Of a letter that was replayed and refused again; see Replay. Path is the way that
	// is left to the row; without it, that is Node and Ordinal.
	FirstPartition string       `json:"first_partition,omitempty"` // where the record was first read
	FirstOffset    Offset       `json:"first_offset,omitempty"`
	Path           []LetterStep `json:"path,omitempty"`
}

// letterFields is a DeadLetter's JSON form but for what JSON can't say: headers are bytes (rule
// B4) and its texts UTF-8, and times may be far away.
type letterFields DeadLetter

type letterJSON struct {
	letterFields
	Binary []binaryHeader `json:"binary_headers,omitempty"` // those that are not UTF-8
	Millis *int64         `json:"arrived_ms,omitempty"`     // since 1970, when JSON has not Arrived's year or zone
}

type binaryHeader struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// MarshalJSON makes the letter's line of the dead-letter file.
func (l DeadLetter) MarshalJSON() ([]byte, error) {
	out := letterJSON{letterFields: letterFields(l)}
	for k, v := range l.Headers {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			out.Binary = append(out.Binary, binaryHeader{[]byte(k), []byte(v)})
		}
	}
	if out.Binary != nil {
		slices.SortFunc(out.Binary, func(a, b binaryHeader) int { return bytes.Compare(a.Key, b.Key) })
		out.Headers = maps.Clone(l.Headers)
		for _, h := range out.Binary {
			delete(out.Headers, string(h.Key))
		}
	}
	// What a record says of its time may be anything, microseconds that were taken for milliseconds
	// for instance, and must not keep its letter from being written.
	if _, err := l.Arrived.MarshalJSON(); err != nil {
		ms := l.Arrived.UnixMilli()
		out.Millis, out.Arrived = &ms, time.Time{}
	}
	return json.Marshal(&out)
}

// UnmarshalJSON undoes MarshalJSON.
func (l *DeadLetter) UnmarshalJSON(line []byte) error {
	in := letterJSON{letterFields: letterFields(*l)}
	if err := json.Unmarshal(line, &in); err != nil {
		return err
	}
	for _, h := range in.Binary {
		if in.Headers == nil {
			in.Headers = map[string]string{}
		}
		in.Headers[string(h.Key)] = string(h.Value)
	}
	if in.Millis != nil {
		in.Arrived = time.UnixMilli(*in.Millis).UTC()
	}
	*l = DeadLetter(in.letterFields)
	return nil
}

// DeadLetterLog is an append log of dead letters. It takes no barriers and is
// outside the checkpoints (rule B3-1). All methods are called one at a time.
//
// A log may also have a method Has(id string) bool. The engine then asks it
// whether a row that a sink holds since an earlier life was refused by that
// sink, so that the counters stay exact over a crash.
type DeadLetterLog interface {
	// Open is called before anything else, and again after a Close.
	Open(ctx context.Context, env Env) error

	// Append adds letters. A letter whose ID it has already changes nothing
	// (rule B3-2). It need not be durable before Sync. When it fails, the
	// pipeline goes no further: Transient is retried, any other error ends it.
	Append(ctx context.Context, letters []DeadLetter) error

	// Sync makes what was appended durable: called before any position moves
	// past these rows (rule B3).
	Sync(ctx context.Context) error

	Close() error
}

// DeadLetterFile is a log of JSON lines. A torn last line is cut off when it
// opens; the file is rotated at 64 MiB to name-000001.jsonl and so on. Letters
// written since the last but one rotation are not written twice.
func DeadLetterFile(path string) DeadLetterLog { return &letterFile{path: path} }

const rotateAt = 64 << 20

type letterFile struct {
	path string

	mu     sync.Mutex
	log    *jsonlines.Log
	recent [2]map[string]struct{} // ids of the last rotated and of the current file
}

func (f *letterFile) Open(context.Context, Env) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log != nil { // what waits to be written would be forgotten (rule B3)
		return fmt.Errorf("dead letters %s: a pipeline has them open: make a log for each", f.path)
	}
	log, err := jsonlines.Open(f.path)
	if err != nil {
		return whenRoom(err)
	}
	files, err := jsonlines.Files(f.path)
	if err != nil {
		return errors.Join(err, log.Close())
	}
	f.recent = [2]map[string]struct{}{{}, {}}
	// What a crash left uncommitted is in the last two files at most, since a
	// rotation follows a Sync.
	for i, name := range files[max(0, len(files)-2):] {
		if err := f.load(name, f.recent[i+2-min(2, len(files))]); err != nil {
			return errors.Join(err, log.Close())
		}
	}
	f.log = log
	return nil
}

func (f *letterFile) load(name string, into map[string]struct{}) error {
	err := jsonlines.Scan(name, func(line []byte) error {
		var l struct{ ID string }
		if json.Unmarshal(line, &l) == nil && l.ID != "" { // a foreign line is not ours to judge
			into[l.ID] = struct{}{}
		}
		return nil
	})
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// Has tells whether the letter is in the last two files.
func (f *letterFile) Has(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen(id)
}

func (f *letterFile) seen(id string) bool {
	_, old := f.recent[0][id]
	_, now := f.recent[1][id]
	return old || now
}

func (f *letterFile) Append(_ context.Context, letters []DeadLetter) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var lines []byte
	added := make(map[string]struct{}, len(letters))
	for i := range letters {
		id := letters[i].ID
		if _, dup := added[id]; dup || f.seen(id) { // rule B3-2
			continue
		}
		js, err := letters[i].MarshalJSON() // not json.Marshal, which would go through the text once more
		if err != nil {
			return fmt.Errorf("dead letters %s: %w", f.path, err)
		}
		lines = append(append(lines, js...), '\n')
		added[id] = struct{}{}
	}
	if len(lines) == 0 {
		return nil
	}
	if err := f.log.Append(lines); err != nil {
		return whenRoom(fmt.Errorf("dead letters: %w", err))
	}
	for id := range added {
		f.recent[1][id] = struct{}{}
	}
	return nil
}

func (f *letterFile) Sync(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.log.Sync(); err != nil {
		return whenRoom(fmt.Errorf("dead letters: %w", err))
	}
	if f.log.Size() < rotateAt {
		return nil
	}
	if err := f.log.Rotate(); err != nil {
		return whenRoom(fmt.Errorf("dead letters: %w", err))
	}
	f.recent[0], f.recent[1] = f.recent[1], map[string]struct{}{}
	return nil
}

// whenRoom lets the engine try again on a full disk, as long as the log can (rule B8).
func whenRoom(err error) error {
	if durable.NoRoom(err) && !errors.Is(err, jsonlines.ErrBroken) {
		return Transient(err)
	}
	return err
}

func (f *letterFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.log == nil {
		return nil
	}
	err := f.log.Close()
	f.log = nil
	return err
}

// ReadDeadLetters reads a dead-letter file, rotated parts first, oldest letter
// first. It may be called while a pipeline writes.
func ReadDeadLetters(path string, yield func(DeadLetter) error) error {
	files, err := jsonlines.Files(path)
	if err != nil {
		return err
	}
	for _, name := range files {
		n := 0
		err := jsonlines.Scan(name, func(line []byte) error {
			n++
			var l DeadLetter
			if err := json.Unmarshal(line, &l); err != nil {
				return fmt.Errorf("%s, line %d, is no dead letter: %w; no position depends on it: mend that line, restore it from a backup, or delete it", name, n, err)
			}
			return yield(l)
		})
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// erasedLetters is a DeadLetterLog as the engine sees it.
type erasedLetters struct{ log DeadLetterLog }

func (e erasedLetters) Open(ctx context.Context, env engine.Env) error {
	return e.log.Open(ctx, Env(env))
}
func (e erasedLetters) Sync(ctx context.Context) error { return e.log.Sync(ctx) }
func (e erasedLetters) Close() error                   { return e.log.Close() }

// Has lets the engine count a row that a sink refused in an earlier life; a log
// of another kind need not know.
func (e erasedLetters) Has(id string) bool {
	h, ok := e.log.(interface{ Has(id string) bool })
	return ok && h.Has(id)
}

func (e erasedLetters) Append(ctx context.Context, letters []engine.Letter) error {
	out := make([]DeadLetter, len(letters))
	for i, l := range letters {
		out[i] = DeadLetter{
			ID: l.ID, Time: l.Time, Pipeline: l.Pipeline, Version: l.Version, Node: l.Node,
			Class: Class(l.Class), Error: l.Error, Column: l.Column, Rule: l.Rule, Stack: string(l.Stack),
			Attempt: l.Attempt, Source: l.Source, Partition: l.Origin.Partition, Offset: l.Origin.Offset,
			Ordinal: l.Ordinal, File: l.Origin.File, Line: l.Origin.Line, Topic: l.Origin.Topic,
			Key: l.Origin.Key, Headers: l.Origin.Headers, Header: l.Origin.Header, Raw: l.Origin.Raw,
			Sink: l.Sink, Row: l.Row, Arrived: l.Origin.Time,
			FirstPartition: l.FirstPartition, FirstOffset: l.FirstOffset,
		}
		for _, step := range l.Path {
			out[i].Path = append(out[i].Path, LetterStep(step))
		}
		for _, step := range l.Without {
			out[i].Without = append(out[i].Without, LetterStep(step))
		}
	}
	return e.log.Append(ctx, out)
}
