package notify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/notify"
)

// logger writes to stdout, without the time.
func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
}

func ExampleNew() {
	n := notify.New(notify.Config{Pipeline: "numbers", Logger: logger()}) // no URL: to the log
	if err := n.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	p := leat.New("numbers", leat.Config{StateDir: dir, Observe: n.Observe})
	leat.To(leat.From(p, leattest.Rows(1, 2, 3)), leattest.Collect[int]())
	err = p.Run(context.Background())
	fmt.Println(errors.Join(err, n.Close(context.Background())))
	// Output:
	// level=INFO msg="[numbers] started" notify=started
	// level=INFO msg="[numbers] stopped; all that was read is committed" notify=stopped
	// <nil>
}

func ExampleNotifier_File() {
	n := notify.New(notify.Config{Level: slog.LevelError, Logger: logger()})
	n.File(notify.File{Name: "monday.csv", Status: notify.FileOK, Rows: 1000}) // below Level
	n.File(notify.File{Name: "tuesday.csv", Status: notify.FileFailed, Err: errors.New("the header misses the column total")})
	n.File(notify.File{Name: "wednesday.csv", Status: notify.FileFailed, Err: errors.New("permission denied")})
	fmt.Println(n.Close(context.Background()))
	// Output:
	// level=ERROR msg="2 files failed; tuesday.csv: the header misses the column total; wednesday.csv: permission denied" notify=file/failed
	// <nil>
}

func ExampleNotifier_Send() {
	n := notify.New(notify.Config{Logger: logger()})
	n.Send(notify.Message{Level: slog.LevelWarn, Kind: "disk", Text: "the disk is 90 % full"})
	fmt.Println(n.Close(context.Background()))
	// Output:
	// level=WARN msg="the disk is 90 % full" notify=program/disk
	// <nil>
}
