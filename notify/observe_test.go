package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/stage"
)

func observe(n *Notifier, kind leat.EventKind, node string, wait time.Duration, err error) {
	n.Observe(leat.Event{Kind: kind, Time: time.Now(), Node: node, Duration: wait, Err: err})
}

var refusedConn = &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 5432},
	Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}

func TestTroubleThatLasts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Level: slog.LevelWarn, Window: -1, Every: -1})
		// A short one is nobody's business.
		for range 3 {
			observe(n, leat.EventRetry, "db", time.Second, leat.Transient(refusedConn))
			time.Sleep(time.Second)
			observe(n, leat.EventWrite, "db", 0, nil)
		}
		time.Sleep(5 * time.Minute)
		require.Empty(t, b.texts())

		for range 20 { // 10 minutes
			observe(n, leat.EventRetry, "db", 30*time.Second, leat.Transient(refusedConn))
			observe(n, leat.EventBatch, "files", 0, nil)
			observe(n, leat.EventWrite, "other sink", 0, nil)
			time.Sleep(30 * time.Second)
		}
		require.Equal(t, []string{"in trouble, still trying: db, for 1m0s now: dial tcp 10.0.0.1:5432: connection refused"}, b.texts())
		observe(n, leat.EventWrite, "db", 0, nil)
		synctest.Wait()
		require.Equal(t, "well again: db, after 10m0s", b.texts()[1])
		require.False(t, n.troubled.Load())
	})
}

func TestTroubleOfNodesWithoutEventsOfTheirOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Window: -1, Every: -1})
		for range 4 {
			observe(n, leat.EventRetry, "enrich", 30*time.Second, nil)
			time.Sleep(30 * time.Second)
			observe(n, leat.EventCheckpoint, "", 0, nil) // of other partitions
		}
		require.Equal(t, []string{"in trouble, still trying: enrich, for 1m0s now"}, b.texts())
		time.Sleep(2 * time.Minute) // it did not fail again
		observe(n, leat.EventCheckpoint, "", 0, nil)
		synctest.Wait()
		require.Equal(t, "well again: enrich, after 4m0s", b.texts()[1])
	})
}

func TestRewindsThatLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Level: slog.LevelWarn, Window: -1, Every: -1})
		observe(n, leat.EventRewind, "", 0, leat.ErrAborted)
		observe(n, leat.EventCheckpoint, "", 0, nil)
		for range 5 {
			observe(n, leat.EventRewind, "", 0, leat.ErrAborted)
			time.Sleep(20 * time.Second)
			observe(n, leat.EventBatch, "files", 0, nil)
			observe(n, leat.EventStarted, "", 0, nil)
		}
		require.Equal(t, []string{"in trouble, still trying: the pipeline has gone back to its last checkpoint 4 times, for 1m0s now: the open commit is gone"}, b.texts())
		observe(n, leat.EventCheckpoint, "", 0, nil)
		synctest.Wait()
		require.Equal(t, "well again: the pipeline, after 1m40s", b.texts()[1])
	})
}

func TestStartedIsToldOncePerRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{Window: -1, Every: -1})
		for range 2 {
			observe(n, leat.EventStarted, "", 0, nil)
			observe(n, leat.EventStarted, "", 0, nil) // after a rewind
			synctest.Wait()
			observe(n, leat.EventStopped, "", 0, nil)
			synctest.Wait()
		}
		require.Equal(t, []string{"started", "stopped; all that was read is committed", "started", "stopped; all that was read is committed"}, b.texts())
	})
}

// secretive quotes a row, and knows it.
type secretive struct{}

func (secretive) Error() string  { return "header: SECRET ROW" }
func (secretive) ForLog() string { return "the header misses a column" }

func TestTextsHoldNoRows(t *testing.T) {
	t.Parallel()
	row := errors.New(`duplicate key: SECRET ROW`)
	breaker := fmt.Errorf("%w: 600 of the last 1000 rows were rejected", leat.ErrBreakerOpen)
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"unknown", row, "stopped with an error: the log has the cause"},
		{"with its place", &leat.Error{Pipeline: "p", Node: "db", Partition: "files", Offset: 5, Class: leat.SinkReject, Err: row},
			"stopped with an error: at db, partition files, class SinkReject, the log has the cause"},
		{"field", &leat.Error{Node: "contract", Offset: 1, Err: &leat.FieldError{Column: "total", Rule: "gt", Msg: "SECRET ROW"}},
			`stopped with an error: at contract, column "total", rule "gt"`},
		{"ForLog", fmt.Errorf("%w", secretive{}), "stopped with an error: the header misses a column"},
		{"fenced", fmt.Errorf("SECRET ROW %w", leat.ErrFenced), "stopped with an error: another process has taken the partition over"},
		{"path", errors.Join(row, &fs.PathError{Op: "open", Path: "/state/checkpoints.db", Err: syscall.EACCES}),
			"stopped with an error: open /state/checkpoints.db: permission denied"},
		{"network", fmt.Errorf("SECRET ROW: %w", refusedConn), "stopped with an error: dial tcp 10.0.0.1:5432: connection refused"},
		{"name", &net.DNSError{Err: "no such host", Name: "db.example.com"}, "stopped with an error: lookup db.example.com: no such host"},
		{"disk", os.NewSyscallError("write", syscall.ENOSPC), "stopped with an error: no space left on device"},
		{"deadline", fmt.Errorf("SECRET ROW: %w", context.DeadlineExceeded), "stopped with an error: it took too long"},
		{"breaker", breaker, "stopped by the circuit breaker: 600 of the last 1000 rows were rejected"},
		{"breaker with its place", &leat.Error{Node: "db", Offset: -1, Err: errors.Join(row, fmt.Errorf("SECRET ROW: %w", breaker))},
			"stopped by the circuit breaker: at db, 600 of the last 1000 rows were rejected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				n, b, logs := withInbox(Config{Level: slog.LevelError})
				observe(n, leat.EventStopped, "", 0, c.err)
				require.NoError(t, n.Close(t.Context()))
				require.Equal(t, []string{c.want}, b.texts())
				require.NotContains(t, logs.String(), "SECRET ROW")
			})
		})
	}
}

// Names of files come from strangers: they must not begin lines, mention everybody
// or make links.
func TestNamesHaveNoEffects(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{})
		n.File(File{Name: "a\r\nSubject: x\x1b[2J <!channel> @everyone \u202egnp.csv\xff" + strings.Repeat("x", 300), Status: "strange", Err: secretive{}})
		require.NoError(t, n.Close(t.Context()))
		require.Equal(t, "file failed: a  Subject: x [2J ‹!channel› ＠everyone  gnp.csv?"+strings.Repeat("x", 71)+"…: the header misses a column", b.texts()[0])
	})
}

func TestFileWithoutAReason(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		n, b, _ := withInbox(Config{})
		n.File(File{Name: "a.csv", Status: FileFailed})
		n.File(File{Name: "b.csv", Status: FileSkipped})
		require.NoError(t, n.Close(t.Context()))
		require.Equal(t, []string{"file failed: a.csv: the log has the reason", "file skipped: b.csv"}, b.texts())
	})
}

func TestObserveCostsNothingPerBatch(t *testing.T) {
	n, _, _ := withInbox(Config{})
	e := leat.Event{Time: time.Now(), Node: "files", Partition: "files", Rows: 4096}
	measure := func() float64 {
		return testing.AllocsPerRun(1000, func() {
			for _, e.Kind = range []string{leat.EventBatch, leat.EventWrite, leat.EventCommit, leat.EventCheckpoint} {
				n.Observe(e)
			}
		})
	}
	require.Zero(t, measure())
	observe(n, leat.EventRetry, "db", time.Hour, nil)
	require.True(t, n.troubled.Load())
	require.Zero(t, measure(), "nor while something is wrong elsewhere")
}

func BenchmarkObserveBatch(b *testing.B) {
	n := New(Config{})
	e := leat.Event{Kind: leat.EventBatch, Time: time.Now(), Node: "files", Rows: 4096}
	for b.Loop() {
		n.Observe(e)
	}
}

// Rule B7, with a real pipeline.
func TestPipelineTellsOfItsBreaker(t *testing.T) {
	t.Parallel()
	b := &inbox{}
	n := New(Config{Pipeline: "p", Window: -1, Logger: slog.New(slog.DiscardHandler)})
	n.to = receiver{"inbox", b.send}
	p := leat.New("p", leat.Config{StateDir: t.TempDir(), Observe: n.Observe, Logger: slog.New(slog.DiscardHandler)})
	rows := leat.From(p, leattest.Rows(make([]int, 1000)...))
	bad := leat.Via(rows, "refuse", stage.Map(func(int) (int, error) { return 0, errors.New("SECRET ROW") }))
	leat.To(bad, leattest.Collect[int]())
	err := p.Run(t.Context())
	require.ErrorIs(t, err, leat.ErrBreakerOpen)
	require.NoError(t, n.Close(t.Context()))
	got := b.texts()
	require.Equal(t, "[p] started", got[0])
	require.Contains(t, got[1], "[p] stopped by the circuit breaker: ")
	require.Contains(t, got[1], "100 of the last 100 rows were rejected")
	require.NotContains(t, strings.Join(got, ""), "SECRET ROW")
}
