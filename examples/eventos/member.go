package main

import (
	"context"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// instance makes the process a static member of the group: after a crash the same command gets
// its partitions back at once, and need not wait until the group takes its former self for dead. The embedded
// broker's group dies with the process.
func (o options) instance() string {
	if o.embedded {
		return ""
	}
	host, _ := os.Hostname()
	path, err := filepath.Abs(o.out)
	if err != nil {
		path = o.out
	}
	return fmt.Sprintf("eventos-%08x", crc32.ChecksumIEEE([]byte(host+"\x00"+path)))
}

// leave gives the partitions back, which a static member does not do by itself: after an orderly end
// another process need not wait for them. One that has only waited for the folder leaves nothing: the member of
// that name is the process that it has waited for.
func leave(o options, j *joined, log *slog.Logger) {
	if o.instance() == "" || !j.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(o.brokers...))
	if err == nil {
		defer cl.Close()
		_, err = kadm.NewClient(cl).LeaveGroup(ctx, kadm.LeaveGroup(o.group).InstanceIDs(o.instance()))
	}
	if err != nil {
		log.Warn("the group could not be told that this process ends; another one with its own -out gets no partitions until the session times out", "group", o.group, "err", err)
	}
}

// joined tells whether the source has had a client; it is a hook of it.
type joined struct{ atomic.Bool }

func (j *joined) OnNewClient(*kgo.Client) { j.Store(true) }
