package csvsource

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
)

// letterHeader keeps the last header: the letters of one file come together.
type letterHeader struct {
	mu   sync.Mutex
	text string
	h    *header
}

// DecodeLetter implements leat.LetterDecoder. It decodes the record of a dead letter
// once more, by the header line that it came with, and appends it to out as record
// number record. Its file, line, offset and time are the letter's. A record that still can't be decoded is rejected as when
// it was read. An error means that this source can do nothing with the letter. The
// row's strings may be parts of l.Raw, which must not be changed any more.
func (s *Source[T]) DecodeLetter(l leat.DeadLetter, out *leat.Batch[T], record int) error {
	return s.decodeLetter(&l, out, record, func(record int, err error) { out.Reject(record, leat.Decode, err) })
}

func (s *Source[T]) decodeLetter(l *leat.DeadLetter, out *leat.Batch[T], record int, reject func(record int, err error)) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("csvsource: dead letter %s (%s, line %d): "+format, append([]any{l.ID, l.File, l.Line}, args...)...)
	}
	switch {
	case l.Class == leat.Decode && l.Rule == ruleSize:
		return fail("the record was longer than MaxRecord, so that only its first %d bytes were kept: raise MaxRecord, or shorten the record, and read the file again with Reprocess", len(l.Raw))
	case len(l.Raw) == 0:
		return fail("it has no original bytes")
	case l.Header == "":
		return fail("it has no header line")
	}
	h, err := s.letterHeader(l.Header)
	if err != nil {
		return fail("%w", err)
	}
	d := &h.form.dialect
	text := l.Raw
	if h.form.coded() {
		text = h.form.encoding.code().Decode(nil, text)
	}
	if span, _ := d.Scan(text, true); !span.Record || span.Len < len(text) || len(text) > d.MaxRecord {
		switch {
		case len(text) > d.MaxRecord:
			return fail("its %d bytes are more than MaxRecord, %d", len(text), d.MaxRecord)
		case !span.Record:
			return fail("its bytes are no record but an empty line or a comment")
		}
		return fail("its bytes are more than one record")
	}
	c := chunk[T]{
		piece:  csvtext.Piece{Data: text, Line: l.Line},
		header: h, base: l.Offset, file: l.File, arrived: l.Arrived,
	}
	w := walk[T]{
		chunk: &c, out: out, first: record, reject: reject,
		records: csvtext.NewRecords(d, text, l.Line, h.fields),
	}
	for !w.run() {
	}
	return nil
}

// letterHeader reads a header line.
func (s *Source[T]) letterHeader(text string) (*header, error) {
	k := &s.letters
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.h != nil && k.text == text {
		return k.h, nil
	}
	f, err := newForm(&s.config)
	if err != nil {
		return nil, err
	}
	c := csvtext.NewCutter(f.dialect, 4<<10)
	c.Reset(strings.NewReader(text))
	_, h, err := f.readHeader(c)
	if err != nil {
		return nil, err
	}
	if c.Offset() < int64(len(text)) {
		return nil, errors.New("its header is more than one line")
	}
	k.text, k.h = text, h
	return h, nil
}
