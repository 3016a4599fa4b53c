package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// partitions of a topic that this program makes.
const partitions = 3

// embedded is a broker in this process.
type embedded struct {
	*kfake.Cluster
	lock *bbolt.DB
}

// embed starts one. What it has is kept in dir, so that the next run goes on, also after a kill.
// Two brokers would ruin each other's files there: the second one waits.
func embed(ctx context.Context, dir, topic string, log *slog.Logger) (*embedded, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := alone(ctx, filepath.Join(filepath.Dir(dir), "broker.lock"), log)
	if err != nil {
		return nil, err
	}
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.DataDir(dir), kfake.SyncWrites(), kfake.SeedTopics(partitions, topic))
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &embedded{c, lock}, nil
}

func (e *embedded) Close() {
	e.Cluster.Close()
	_ = e.lock.Close()
}

// alone waits until no other process has the file. A bbolt database, even one with nothing in it,
// can be open once, and a process that dies lets go of it; the standard library has no such lock.
func alone(ctx context.Context, file string, log *slog.Logger) (*bbolt.DB, error) {
	for told := false; ; told = true {
		db, err := bbolt.Open(file, 0o600, &bbolt.Options{Timeout: 100 * time.Millisecond})
		switch {
		case !errors.Is(err, bolterrors.ErrTimeout):
			return db, err
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case !told:
			log.Warn("another process has the embedded broker's data; waiting for it to end", "lock", file)
		}
	}
}
