package folder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"sync"
)

var hashBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// hashAll is the SHA-256 of what r gives, in hexadecimal. It looks at ctx often.
func hashAll(ctx context.Context, r io.Reader) (string, int64, error) {
	h := sha256.New()
	buf := hashBuffers.Get().(*[]byte)
	defer hashBuffers.Put(buf)
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return "", 0, err
		}
		n, err := r.Read(*buf)
		h.Write((*buf)[:n])
		size += int64(n)
		if err == io.EOF {
			return hex.EncodeToString(h.Sum(nil)), size, nil
		}
		if err != nil {
			return "", 0, err
		}
	}
}
