package folder

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"time"
)

const lockFile = "lock"

// lockPoll is how often a waiting process looks whether the folder is free.
const lockPoll = 100 * time.Millisecond

// waitLock takes a lock, waiting until ctx ends (rule D5: a second process says so
// and waits). try returns nil, nil when another process has it.
func waitLock(ctx context.Context, log *slog.Logger, what string, try func() (io.Closer, error)) (io.Closer, error) {
	said := false
	tick := time.NewTicker(lockPoll)
	defer tick.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c, err := try()
		if err != nil {
			return nil, fmt.Errorf("folder: lock %s: %w", what, err)
		}
		if c != nil {
			if said {
				log.Info("the folder is free now", "folder", what)
			}
			return c, nil
		}
		if !said {
			said = true
			log.Warn("the folder is locked by another process: waiting for it to end", "folder", what, "rule", "D5")
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}
