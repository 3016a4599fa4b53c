package parquetsource

import (
	"context"
	"io"
	"time"

	"github.com/leatgo/leat/internal/parquetread"
)

// Isolate says how much a process that decodes a file may use.
type Isolate struct {
	Memory  int64
	Timeout time.Duration
}

func (i *Isolate) on() bool { return i.Memory != 0 }

func isolated(ctx context.Context, i *Isolate, r io.ReaderAt, size int64, limits parquetread.Limits) (opened, error) {
	return nil, nil
}
