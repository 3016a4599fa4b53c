package own

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/leatgo/leat"
)

// Lines is a source of the lines of one text file that does not change. The offset of a
// line is that of its first byte.
type Lines struct {
	Path       string
	ChunkBytes int // about how much goes into one batch; 0 is 64 KiB
}

// Name implements leat.Named.
func (s *Lines) Name() string { return "lines" }

// Replay implements leat.Replayer.
func (s *Lines) Replay() leat.ReplayKind { return leat.ReplayExact }

// Commit implements leat.Source: where to go on is with the sinks and the engine.
func (s *Lines) Commit(context.Context, leat.Checkpoint) error { return nil }

// Run implements leat.Source.
func (s *Lines) Run(_ context.Context, in leat.Intake[string]) error {
	text, err := os.ReadFile(s.Path)
	if err != nil {
		return err
	}
	at, err := in.Assign(leat.Partition{Log: s.Path})
	if err != nil {
		return err
	}
	next := int(at[""].Next)
	if next > len(text) || next > 0 && next < len(text) && text[next-1] != '\n' {
		return fmt.Errorf("%s: position %d is not where a line starts: the file is another one (rule A2-1)", s.Path, next)
	}
	size := s.ChunkBytes
	if size == 0 {
		size = 64 << 10
	}
	for next < len(text) {
		end := min(next+size, len(text))
		if i := bytes.IndexByte(text[end-1:], '\n'); i >= 0 {
			end += i
		} else {
			end = len(text)
		}
		if err := in.Send(chunk(text[next:end], next)); err != nil {
			return err
		}
		next = end
	}
	return nil
}

func chunk(text []byte, first int) leat.Chunk[string] {
	return leat.Chunk[string]{
		First: int64(first), Next: int64(first + len(text)), Bytes: int64(2 * len(text)),
		Decode: func(_ context.Context, out *leat.Batch[string]) error {
			record := 0
			for line := range bytes.Lines(text) {
				if line = bytes.TrimSuffix(line, []byte("\n")); utf8.Valid(line) {
					out.Append(string(line), record)
				} else {
					out.Reject(record, leat.Decode, errors.New("not UTF-8: "+strconv.QuoteToASCII(string(line))))
				}
				record++
			}
			return nil
		},
		Locate: func(records []int) (found []leat.Origin) {
			offset, record := first, 0
			for line := range bytes.Lines(text) {
				for range count(records, record) {
					found = append(found, leat.Origin{Offset: int64(offset), Raw: bytes.TrimSuffix(line, []byte("\n"))})
				}
				offset += len(line)
				record++
			}
			return found
		},
	}
}

// count tells how often a record is asked for.
func count(records []int, record int) int {
	i, _ := slices.BinarySearch(records, record)
	j, _ := slices.BinarySearch(records, record+1)
	return j - i
}
