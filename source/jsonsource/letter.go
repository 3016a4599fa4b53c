package jsonsource

import (
	"bytes"
	"fmt"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
)

// DecodeLetter implements leat.LetterDecoder. It decodes the record of a dead letter once
// more and appends it to out as record number record. Its file, line, offset and time are
// the letter's. A record that still can't be decoded is rejected as when it was read. An
// error means that this source can do nothing with the letter.
func (s *Source[T]) DecodeLetter(l leat.DeadLetter, out *leat.Batch[T], record int) error {
	return s.decodeLetter(&l, out, record, func(record int, err error) { out.Reject(record, leat.Decode, err) })
}

func (s *Source[T]) decodeLetter(l *leat.DeadLetter, out *leat.Batch[T], record int, reject func(record int, err error)) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("jsonsource: dead letter %s (%s, line %d): "+format, append([]any{l.ID, l.File, l.Line}, args...)...)
	}
	lines, err := s.lines()
	if err != nil {
		return fail("%w", err)
	}
	switch blank, _ := skipBlank(l.Raw, 0, 0); {
	case l.Class == leat.Decode && l.Rule == ruleSize:
		return fail("the record was longer than MaxRecord, so that only its first %d bytes were kept: raise MaxRecord, or shorten the record, and read the file again with files.Reprocess", len(l.Raw))
	case len(l.Raw) == 0:
		return fail("it has no original bytes")
	case len(l.Raw) > lines.dialect.MaxRecord:
		return fail("its %d bytes are more than MaxRecord, %d", len(l.Raw), lines.dialect.MaxRecord)
	case blank == len(l.Raw):
		return fail("its bytes are no record but an empty line")
	case bytes.IndexByte(bytes.TrimSuffix(l.Raw, []byte("\n")), '\n') >= 0:
		return fail("its bytes are more than one record")
	}
	c := chunk[T]{piece: csvtext.Piece{Data: l.Raw, Line: l.Line}, lines: lines, base: l.Offset, file: l.File, arrived: l.Arrived}
	w := walk[T]{chunk: &c, out: out, first: record, reject: reject, decoder: lines.plan.Decoder(), line: l.Line}
	defer w.decoder.Release()
	for !w.run() {
	}
	return nil
}
