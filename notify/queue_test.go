package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// inbox is a receiver in memory.
type inbox struct {
	mu    sync.Mutex
	got   []string
	at    []time.Duration // since start
	tries int
	start time.Time
	fail  func(try int) error // nil: takes all
}

func (b *inbox) send(ctx context.Context, m message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tries++
	if b.fail != nil {
		if err := b.fail(b.tries); err != nil {
			return err
		}
	}
	b.got = append(b.got, m.text())
	b.at = append(b.at, time.Since(b.start))
	return nil
}

func (b *inbox) set(fail func(int) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = fail
}

func (b *inbox) texts() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.got...)
}

func (b *inbox) attempts() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.tries
}

// withInbox is a notifier whose receiver is in memory, and its log.
func withInbox(c Config) (*Notifier, *inbox, *logBuffer) {
	logs := &logBuffer{}
	c.Logger = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := New(c)
	b := &inbox{start: time.Now()}
	n.to = receiver{"inbox", b.send}
	return n, b, logs
}

type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func always(err error) func(int) error { return func(int) error { return err } }

func failed(name string) File {
	return File{Name: name, Status: FileFailed, Err: errors.New("no header")}
}

func TestBurstIsOneMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Pipeline: "ventas"})
		for i := range 1000 {
			n.File(failed(fmt.Sprintf("f%04d.csv", i)))
		}
		synctest.Wait()
		require.Empty(t, b.texts(), "others of its kind may follow")
		time.Sleep(6 * time.Second)
		require.Equal(t, []string{"[ventas] 1000 files failed\nf0000.csv: no header\nf0001.csv: no header\n" +
			"f0002.csv: no header\nf0003.csv: no header\nf0004.csv: no header\nand 995 more"}, b.texts())
		require.NoError(t, n.Close(t.Context()))
	})
}

func TestSlowBurstIsBoundedByEvery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{})
		for i := range 600 { // one a second, for ten minutes
			n.File(failed(fmt.Sprint(i)))
			time.Sleep(time.Second)
		}
		require.NoError(t, n.Close(t.Context()))
		require.LessOrEqual(t, len(b.texts()), 11)
		total := 0
		for _, text := range b.texts() {
			var count int
			_, err := fmt.Sscanf(text, "%d files failed", &count)
			require.NoError(t, err, text)
			total += count
		}
		require.Equal(t, 600, total, "none is forgotten")
	})
}

func TestKindsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{})
		n.File(File{Name: "a.csv", Status: FileOK, Rows: 10, Unreadable: 1, Duration: 1500 * time.Millisecond})
		n.File(File{Name: "b.csv", Status: FileOK, Rows: 20, Duration: time.Second})
		n.File(File{Name: "c.csv", Status: FileSkipped, Err: errors.New("same content as a.csv")})
		n.File(File{Name: "d.csv", Status: FileRefused, Err: errors.New("a symbolic link")})
		n.Send(Message{Kind: "disk", Text: "disk is filling"})
		n.Send(Message{Text: "alone 1"})
		n.Send(Message{Text: "alone 2"})
		time.Sleep(time.Minute)
		require.Equal(t, []string{
			"2 files done, 30 rows, 1 unreadable\na.csv, 10 rows, 1 unreadable, in 1.5s\nb.csv, 20 rows, 0 unreadable, in 1s",
			"file skipped: c.csv: same content as a.csv",
			"file refused: d.csv: a symbolic link",
			"disk is filling", "alone 1", "alone 2",
		}, b.texts())
		require.NoError(t, n.Close(t.Context()))
	})
}

func TestLevel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		level slog.Level
		want  []string
	}{
		{slog.LevelDebug, []string{"debug", "info", "warn", "error"}},
		{slog.LevelInfo, []string{"info", "warn", "error"}},
		{slog.LevelWarn, []string{"warn", "error"}},
		{slog.LevelError, []string{"error"}},
	} {
		t.Run(c.level.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, b, _ := withInbox(Config{Level: c.level})
				n.Send(Message{Level: slog.LevelDebug, Text: "debug"})
				n.Send(Message{Level: slog.LevelInfo, Text: "info"})
				n.Send(Message{Level: slog.LevelWarn, Text: "warn"})
				n.Send(Message{Level: slog.LevelError, Text: "error"})
				require.NoError(t, n.Close(t.Context()))
				require.Equal(t, c.want, b.texts())
			})
		})
	}
}

func TestFullQueueDropsTheOldestOfTheLowestLevelAndSaysSo(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Queue: 3})
		n.Send(Message{Level: slog.LevelError, Text: "error"})
		for i := range 10 {
			n.Send(Message{Level: slog.LevelInfo, Text: fmt.Sprintf("info %d", i)})
		}
		n.Send(Message{Level: slog.LevelWarn, Text: "warn"})
		time.Sleep(time.Minute)
		require.Equal(t, []string{"error\n9 more messages were dropped", "info 9", "warn"}, b.texts())
		require.NoError(t, n.Close(t.Context()), "the people know")
	})
}

func TestOutageAndRecovery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, logs := withInbox(Config{Window: -1, Every: -1})
		b.set(always(errors.New("connection refused")))
		n.File(failed("a"))
		time.Sleep(10 * time.Minute)
		for i := range 99 { // they join the one that waits
			n.File(failed(fmt.Sprint("b", i)))
		}
		n.Send(Message{Text: "and this"})
		time.Sleep(10 * time.Minute)
		require.Empty(t, b.texts())
		require.Less(t, b.attempts(), 40, "backoff")
		b.set(nil)
		time.Sleep(2 * time.Minute)
		got := b.texts()
		require.Len(t, got, 2)
		require.Contains(t, got[0], "100 files failed (first at 2000-01-01 ")
		require.Contains(t, got[0], "a: no header\nb0: no header")
		require.Contains(t, got[1], "and this (first at ")
		require.NoError(t, n.Close(t.Context()))
		require.Equal(t, 1, bytes.Count([]byte(logs.String()), []byte("will retry")), "one line per outage: %s", logs)
		require.Contains(t, logs.String(), "takes messages again")
	})
}

func TestRefusedMessageIsLoggedAndNotTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, logs := withInbox(Config{Window: -1})
		b.set(always(refused{errors.New("404")}))
		n.Send(Message{Level: slog.LevelError, Text: "lost one"})
		time.Sleep(time.Hour)
		require.Equal(t, 1, b.attempts())
		require.Contains(t, logs.String(), `level=ERROR msg="notify: message not delivered" text="lost one" receiver=inbox error=404`)
		b.set(nil)
		n.Send(Message{Text: "next"})
		require.NoError(t, n.Close(t.Context()))
		require.Equal(t, []string{"next\n1 more message was dropped"}, b.texts())
	})
}

func TestGiveUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, logs := withInbox(Config{Window: -1})
		b.set(always(errors.New("down")))
		n.Send(Message{Text: "old"})
		time.Sleep(62 * time.Minute)
		require.Contains(t, logs.String(), `text="old (first at `)
		tries := b.attempts()
		time.Sleep(time.Hour)
		require.Equal(t, tries, b.attempts())
		require.EqualError(t, n.Close(t.Context()), "notify: messages not delivered to inbox: 1; see the log")
	})
}

func TestReceiverMaySayWhenToComeAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Window: -1})
		b.set(func(try int) error {
			if try == 1 {
				return busy{errors.New("429"), 90 * time.Second}
			}
			return nil
		})
		n.Send(Message{Text: "x"})
		time.Sleep(89 * time.Second)
		require.Empty(t, b.texts())
		time.Sleep(2 * time.Second)
		require.Equal(t, []string{"x"}, b.texts())
		require.NoError(t, n.Close(t.Context()))
	})
}

func TestCloseDeliversWithoutWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Window: time.Hour})
		n.Observe(leat.Event{Kind: leat.EventStarted})
		n.Observe(leat.Event{Kind: leat.EventStopped})
		start := time.Now()
		require.NoError(t, n.Close(t.Context()))
		require.Zero(t, time.Since(start))
		require.Equal(t, []string{"started", "stopped; all that was read is committed"}, b.texts())
		n.Send(Message{Text: "late"})
		synctest.Wait()
		require.Len(t, b.texts(), 2, "nothing is taken after Close")
		require.NoError(t, n.Close(t.Context()), "twice does no harm")
	})
}

func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	t.Run("outage", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n, b, logs := withInbox(Config{})
			b.set(always(errors.New("down")))
			n.Send(Message{Text: "x"})
			n.File(failed("a"))
			start := time.Now()
			require.EqualError(t, n.Close(t.Context()), "notify: messages not delivered to inbox: 2; see the log")
			require.Equal(t, closeTimeout, time.Since(start))
			require.Contains(t, logs.String(), `text=x`)
			require.Contains(t, logs.String(), `text="file failed: a: no header"`)
		})
	})
	t.Run("hanging receiver", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n, _, logs := withInbox(Config{Timeout: time.Hour, Window: -1})
			n.to.send = func(ctx context.Context, _ message) error { <-ctx.Done(); return ctx.Err() }
			n.Send(Message{Text: "x"})
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			start := time.Now()
			require.Error(t, n.Close(ctx))
			require.Equal(t, 3*time.Second, time.Since(start))
			require.Contains(t, logs.String(), `text=x`)
		})
	})
	t.Run("retries while closing", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			n, b, _ := withInbox(Config{})
			b.set(func(try int) error {
				if try < 3 {
					return errors.New("down")
				}
				return nil
			})
			n.Send(Message{Text: "x"})
			require.NoError(t, n.Close(t.Context()))
			require.Equal(t, []string{"x"}, b.texts())
		})
	})
}

func TestHangingReceiverHoldsNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, _, _ := withInbox(Config{Window: -1, Timeout: time.Hour, Queue: 10})
		n.to.send = func(ctx context.Context, _ message) error { <-ctx.Done(); return ctx.Err() }
		start := time.Now()
		for i := range 10_000 {
			n.Send(Message{Text: fmt.Sprint(i)})
			n.Observe(leat.Event{Kind: leat.EventRetry, Node: "db"})
			n.Observe(leat.Event{Kind: leat.EventWrite, Node: "db"})
		}
		require.Zero(t, time.Since(start))
		n.mu.Lock()
		require.LessOrEqual(t, len(n.waiting), 10)
		n.mu.Unlock()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, n.Close(ctx))
	})
}

func TestNoGoroutineWhileNothingWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // a goroutine that stayed would be a deadlock at the end of the bubble
		n, b, _ := withInbox(Config{})
		n.Send(Message{Text: "x"})
		time.Sleep(time.Minute)
		require.Equal(t, []string{"x"}, b.texts())
	})
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	n, b, _ := withInbox(Config{Window: -1, Every: -1, Patience: -1})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 200 {
				n.Observe(leat.Event{Kind: leat.EventRetry, Node: "db", Err: leat.ErrAborted})
				n.Observe(leat.Event{Kind: leat.EventCommit, Node: "db"})
				n.Observe(leat.Event{Kind: leat.EventBatch, Node: "files"})
				n.File(failed("a"))
			}
		})
	}
	wg.Wait()
	require.NoError(t, n.Close(t.Context()))
	require.NotEmpty(t, b.texts())
}

func TestLogIsTheDefaultReceiver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		logs := &logBuffer{}
		n := New(Config{Pipeline: "ventas", Logger: slog.New(slog.NewTextHandler(logs, nil))})
		require.NoError(t, n.Validate())
		n.File(failed("a.csv"))
		n.File(failed("b.csv"))
		require.NoError(t, n.Close(t.Context()))
		require.Contains(t, logs.String(), `level=ERROR msg="[ventas] 2 files failed; a.csv: no header; b.csv: no header" notify=file/failed`)
	})
}
