package parquetsink

import (
	"context"
	"io"
	"time"
)

// NewEngine gives the default engine to tests that compare it with others.
func NewEngine() Engine { return newEngine() }

// CPUTime is what this process has used of all processors.
func CPUTime() time.Duration { return cpuTime() }

// Merge is what Compact does for a folder.
func Merge(ctx context.Context, files []string, w io.Writer) (int64, error) {
	m := merger{w: w, counter: counter{group: defaultGroup}}
	return m.merge(ctx, files)
}
