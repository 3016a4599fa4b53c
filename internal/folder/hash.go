package folder

import (
	"context"
	"crypto/sha256"
	"io"
	"sync"
)

var hashBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// hashAll is the SHA-256 of what r gives. It looks at ctx often.
func hashAll(ctx context.Context, r io.Reader) (sum [32]byte, _ int64, _ error) {
	h := sha256.New()
	buf := hashBuffers.Get().(*[]byte)
	defer hashBuffers.Put(buf)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return sum, 0, err
		}
		n, err := r.Read(*buf)
		h.Write((*buf)[:n])
		size += int64(n)
		if err == io.EOF {
			return [32]byte(h.Sum(nil)), size, nil
		}
		if err != nil {
			return sum, 0, err
		}
	}
}
