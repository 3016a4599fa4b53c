package filesource

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// compressedExtent is the width of a compressed file's range of offsets: its text
// must be shorter (conventions.md, "Folders").
const compressedExtent = int64(1) << 36

// Compressed tells by its name whether a file is.
func Compressed(name string) bool {
	name = strings.ToLower(name)
	return strings.HasSuffix(name, ".gz") || strings.HasSuffix(name, ".zst")
}

// TextExtent is the width of the range of offsets of a file of text.
func TextExtent(name string, size int64) int64 {
	if Compressed(name) {
		return compressedExtent
	}
	return size + 1
}

// OpenText gives the text of a file, and what to call when it is no longer read. Only an
// uncompressed one can seek. Damage is marked Damaged, and so is more text than a range of
// offsets can hold.
func OpenText(name string, file io.ReadSeeker) (io.Reader, func(), error) {
	none := func() {}
	switch lower := strings.ToLower(name); {
	case strings.HasSuffix(lower, ".gz"):
		src := &source{r: file}
		z, err := gzip.NewReader(bufio.NewReaderSize(src, 64<<10))
		if err != nil {
			return nil, none, src.blame("gzip", err)
		}
		return &text{src: src, r: z, kind: "gzip", left: compressedExtent}, none, nil
	case strings.HasSuffix(lower, ".zst"):
		src := &source{r: file}
		// One goroutine, so that what comes before damage is always the same; windows
		// as large as zstd itself makes them without being asked twice.
		z, err := zstd.NewReader(src, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(128<<20))
		if err != nil {
			return nil, none, src.blame("zstd", err)
		}
		return &text{src: src, r: z, kind: "zstd", left: compressedExtent}, z.Close, nil
	}
	return file, none, nil
}

// source remembers why the stored bytes could not be read, which a decompressor
// may hide or reword.
type source struct {
	r   io.Reader
	err error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

func (s *source) blame(kind string, err error) error {
	switch {
	case s.err != nil:
		return s.err
	case errors.Is(err, io.ErrUnexpectedEOF) || err == io.EOF:
		return Damaged(fmt.Errorf("the %s file is truncated", kind))
	}
	return Damaged(fmt.Errorf("the %s file is damaged: %w", kind, err))
}

// text is decompressed text.
type text struct {
	src  *source
	r    io.Reader
	kind string
	left int64
}

func (t *text) Read(p []byte) (int, error) {
	n, err := t.r.Read(p)
	if t.left -= int64(n); t.left <= 0 {
		return 0, Damaged(fmt.Errorf("its text has %d bytes or more", compressedExtent))
	}
	if err != nil && err != io.EOF {
		err = t.src.blame(t.kind, err)
	}
	return n, err
}
