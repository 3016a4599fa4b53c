package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/state"
)

func commit(next int64, blobs ...string) leat.StateCommit {
	c := leat.StateCommit{Partitions: map[string]leat.StateChange{"a": {Position: leat.Position{Next: next, Log: "l"}, Note: leat.StateNote{Stages: map[string]string{"s": "1"}}}}}
	for _, b := range blobs {
		c.Pieces = append(c.Pieces, leat.StatePiece{Stage: "s", Partition: "a", Data: []byte(b)})
	}
	return c
}

func take(t *testing.T, s *state.PostgresStore, partitions ...string) map[string]leat.StateHeld {
	t.Helper()
	held, err := s.Take(t.Context(), partitions)
	require.NoError(t, err)
	return held
}

// requireHeld checks what a process that comes after finds.
func requireHeld(t *testing.T, c state.PostgresConfig, next int64, blobs ...string) {
	t.Helper()
	s := open(t, c)
	held := take(t, s, "a")["a"]
	require.Equal(t, next, held.Position.Next)
	pieces, err := held.Pieces(t.Context(), "s")
	require.NoError(t, err)
	var got []string
	for _, p := range pieces {
		got = append(got, string(p))
	}
	require.Equal(t, blobs, got)
}

// rules E2, E3, H4: who takes a partition fences the owner before, and only for that one.
func TestFencing(t *testing.T) {
	t.Parallel()
	c := config(t)
	first, second := open(t, c), open(t, c)
	take(t, first, "a", "b")
	both := func(next int64, blob string) leat.StateCommit {
		out := commit(next, blob)
		out.Partitions["b"] = out.Partitions["a"]
		return out
	}
	require.NoError(t, first.Commit(t.Context(), both(1, "1")))
	older := take(t, first, "a")["a"] // a life later
	require.NoError(t, first.Commit(t.Context(), both(2, "2")))
	held := take(t, second, "a")
	require.Equal(t, int64(2), held["a"].Position.Next)

	err := first.Commit(t.Context(), both(3, "3"))
	require.ErrorIs(t, err, leat.ErrFenced, "rule E3")
	require.ErrorContains(t, err, "a")
	require.False(t, leat.IsTransient(err))
	_, err = older.Pieces(t.Context(), "s")
	require.ErrorIs(t, err, leat.ErrFenced, "pieces of a partition that somebody else may compact")
	b := leat.StateCommit{Partitions: map[string]leat.StateChange{"b": {Position: leat.Position{Next: 7, Log: "l"}}}}
	require.NoError(t, first.Commit(t.Context(), b), "the other partition goes on")
	require.NoError(t, second.Commit(t.Context(), commit(4, "4")))
	requireHeld(t, c, 4, "1", "2", "4")

	held = take(t, first, "a", "b")
	require.Equal(t, int64(4), held["a"].Position.Next)
	require.Equal(t, int64(7), held["b"].Position.Next)
	require.ErrorIs(t, second.Commit(t.Context(), commit(5)), leat.ErrFenced)
}

// Two processes that take and commit as fast as they can lose nothing and write nothing twice.
func TestTugOfWar(t *testing.T) {
	t.Parallel()
	c := config(t)
	var wg sync.WaitGroup
	var mu sync.Mutex
	acked := 0
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	for range 3 {
		wg.Go(func() {
			s := state.Postgres(c)
			defer s.Close()
			if err := s.Open(ctx, "p"); err != nil {
				t.Error(err)
				return
			}
			for ctx.Err() == nil {
				held, err := s.Take(ctx, []string{"a"})
				if err != nil {
					if ctx.Err() == nil && !leat.IsTransient(err) {
						t.Error(err)
					}
					continue
				}
				n := held["a"].Position.Next
				for range 1 + rand.IntN(4) {
					n++
					err = s.Commit(ctx, commit(n, fmt.Sprint(n)))
					if err != nil {
						if ctx.Err() == nil && !errors.Is(err, leat.ErrFenced) {
							t.Error(err)
						}
						break
					}
					mu.Lock()
					acked++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	s := open(t, c)
	held := take(t, s, "a")["a"]
	pieces, err := held.Pieces(t.Context(), "s")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(pieces), acked)
	require.LessOrEqual(t, len(pieces), acked+3, "what the end cut off may be there")
	require.Equal(t, int64(len(pieces)), held.Position.Next, "state and position are one (rule G12)")
	for i, p := range pieces {
		require.Equal(t, fmt.Sprint(i+1), string(p), "each once, in order")
	}
}

// rules E3, H4: an owner of long ago is fenced, also where the tables have forgotten that there was one.
func TestEpochIsAboveAllBefore(t *testing.T) {
	t.Parallel()
	for name, forget := range map[string]func(t *testing.T, c state.PostgresConfig, old, requireFenced func()){
		"the rows were deleted": func(t *testing.T, c state.PostgresConfig, old, requireFenced func()) {
			old()
			exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_partitions")
			exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_pieces")
		},
		"the rows were deleted, and a file imported": func(t *testing.T, c state.PostgresConfig, old, requireFenced func()) {
			other := c
			other.Schema = newSchema(t)
			s := open(t, other)
			take(t, s, "a")
			require.NoError(t, s.Commit(t.Context(), commit(1, "1")))
			var file bytes.Buffer
			_, err := operate.ExportState(t.Context(), state.PostgresArchive(other, "p"), &file, "")
			require.NoError(t, err)
			old()
			exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_partitions")
			_, err = operate.ImportState(t.Context(), &file, state.PostgresArchive(c, "p"))
			require.NoError(t, err)
			requireFenced()
		},
		"the new server has not heard of it": func(t *testing.T, c state.PostgresConfig, old, requireFenced func()) {
			s := open(t, c)
			take(t, s, "a")
			require.NoError(t, s.Commit(t.Context(), commit(1, "1")))
			exec(t, t.Context(), "CREATE TABLE "+c.Schema+".standby AS TABLE "+c.Schema+".leat_state_partitions")
			old()
			exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_partitions")
			exec(t, t.Context(), "INSERT INTO "+c.Schema+".leat_state_partitions TABLE "+c.Schema+".standby")
			exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_pieces WHERE n > 0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			old, s := open(t, c), open(t, c)
			requireFenced := func() { require.ErrorIs(t, old.Commit(t.Context(), commit(100, "x")), leat.ErrFenced) }
			forget(t, c, func() {
				at := take(t, old, "a")["a"].Position.Next
				require.NoError(t, old.Commit(t.Context(), commit(at+1, "x")))
			}, requireFenced)
			take(t, s, "a")
			require.NoError(t, s.Commit(t.Context(), commit(10, "y")))
			requireFenced()
			require.NoError(t, s.Commit(t.Context(), commit(11, "z")))
		})
	}
}

// A partition that somebody has reset by deleting its row begins anew, whatever pieces of state are left:
// the commit that came to the number of one was refused, and so was each after it (rules B8, E2).
func TestPiecesWithoutTheirPartition(t *testing.T) {
	t.Parallel()
	c := config(t)
	s := open(t, c)
	take(t, s, "a")
	require.NoError(t, s.Commit(t.Context(), commit(1, "1")))
	whole := commit(2, "2", "3")
	whole.Pieces[0].Whole = true
	require.NoError(t, s.Commit(t.Context(), whole), "1 and 2 are the numbers of what is left")
	exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_partitions")
	require.Empty(t, take(t, s, "a"))
	require.NoError(t, s.Commit(t.Context(), commit(7, "7")))
	require.NoError(t, s.Commit(t.Context(), commit(8, "8")))
	requireHeld(t, c, 8, "7", "8")
}

// A server that takes no writes, which the one of before becomes in a failover, is left: its connection
// stayed, and every call after it failed, whoever took writes by now (rule B8).
func TestStandbyIsLeft(t *testing.T) {
	t.Parallel()
	c := config(t)
	open(t, c) // makes the tables
	role := c.Schema + "_role"
	exec(t, t.Context(), "CREATE ROLE "+role+" LOGIN SUPERUSER")
	t.Cleanup(func() { exec(t, context.Background(), "DROP ROLE "+role) })
	exec(t, t.Context(), "ALTER ROLE "+role+" SET default_transaction_read_only = on")
	conn, err := pgx.ParseConfig(c.DSN)
	require.NoError(t, err)
	conn.User = role
	c.DSN, c.Conn = "", conn
	s := open(t, c)
	_, err = s.Take(t.Context(), []string{"a"})
	require.ErrorContains(t, err, "read-only transaction")
	require.True(t, leat.IsTransient(err))
	exec(t, t.Context(), "ALTER ROLE "+role+" RESET default_transaction_read_only") // who connects now comes to the new one
	take(t, s, "a")
	require.NoError(t, s.Commit(t.Context(), commit(1)))
	require.NoError(t, s.Close())
}

// proxy stands between a store and the server.
type proxy struct {
	net.Listener
	to   string
	mu   sync.Mutex
	mode string // what happens to the next COMMIT
	late chan struct{}
}

func newProxy(t *testing.T, c state.PostgresConfig) (*proxy, state.PostgresConfig) {
	t.Helper()
	conn, err := pgx.ParseConfig(c.DSN)
	require.NoError(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &proxy{Listener: l, to: fmt.Sprintf("%s:%d", conn.Host, conn.Port), late: make(chan struct{})}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.serve(in)
		}
	}()
	conn.Host, conn.Port = "127.0.0.1", uint16(l.Addr().(*net.TCPAddr).Port)
	conn.Fallbacks = nil
	c.DSN, c.Conn = "", conn
	return p, c
}

func (p *proxy) serve(in net.Conn) {
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		_ = in.Close()
		return
	}
	cut := make(chan struct{})
	go func() {
		buf := make([]byte, 64<<10)
		for {
			n, err := out.Read(buf)
			select {
			case <-cut: // the answer is lost
				return
			default:
			}
			if err != nil {
				_ = in.Close()
				return
			}
			_, _ = in.Write(buf[:n])
		}
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if err != nil {
			_ = out.Close()
			return
		}
		p.mu.Lock()
		mode := p.mode
		if mode != "" && bytes.Contains(buf[:n], []byte("commit\x00")) {
			p.mode = ""
			p.mu.Unlock()
			close(cut)
			_ = in.Close()
			switch mode {
			case "done, and the answer is lost":
				_, _ = out.Write(buf[:n])
			case "lost":
			case "late":
				<-p.late
				_, _ = out.Write(buf[:n])
			}
			time.Sleep(50 * time.Millisecond) // the server reads it before it sees the end
			_ = out.Close()
			return
		}
		p.mu.Unlock()
		if _, err := out.Write(buf[:n]); err != nil {
			_ = in.Close()
			return
		}
	}
}

func (p *proxy) next(mode string) {
	p.mu.Lock()
	p.mode = mode
	p.mu.Unlock()
}

// rule E4: a commit whose answer is lost is found out about by reading, and written once.
func TestConnectionLostAtCommit(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"done, and the answer is lost", "lost", "late"} {
		for _, then := range []string{"again", "taken over", "taken again"} {
			t.Run(mode+", "+then, func(t *testing.T) {
				t.Parallel()
				c := config(t)
				p, through := newProxy(t, c)
				s := open(t, through)
				take(t, s, "a")
				require.NoError(t, s.Commit(t.Context(), commit(1, "1")))
				p.next(mode)
				err := s.Commit(t.Context(), commit(2, "2"))
				require.True(t, leat.IsTransient(err), "%v", err)
				if mode == "late" { // the server has not heard of it yet, and holds the rows
					time.AfterFunc(300*time.Millisecond, func() { close(p.late) })
				}
				want, next := []string{"1", "2"}, int64(2)
				switch then {
				case "again":
					require.NoError(t, s.Commit(t.Context(), commit(2, "2")))
				case "taken over":
					other := open(t, c)
					held := take(t, other, "a")["a"]
					require.Equal(t, mode != "lost", held.Position.Next == 2)
					require.ErrorIs(t, s.Commit(t.Context(), commit(2, "2")), leat.ErrFenced)
					next = held.Position.Next
					want = want[:next]
				case "taken again":
					held := take(t, s, "a")["a"]
					require.Equal(t, mode != "lost", held.Position.Next == 2)
					next = held.Position.Next
					want = want[:next]
				}
				if then != "taken over" {
					require.NoError(t, s.Commit(t.Context(), commit(3, "3")))
					want, next = append(want, "3"), 3
				}
				requireHeld(t, c, next, want...)
			})
		}
	}
}

// The server ends connections while a process commits: each commit is there once.
func TestConnectionsKilled(t *testing.T) {
	t.Parallel()
	c := config(t)
	conn, err := pgx.ParseConfig(c.DSN)
	require.NoError(t, err)
	conn.RuntimeParams["application_name"] = c.Schema
	through := c
	through.DSN, through.Conn = "", conn
	s := open(t, through)
	take(t, s, "a")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		killer, err := pgx.Connect(t.Context(), dsn(t))
		if err != nil {
			t.Error(err)
			return
		}
		defer killer.Close(context.Background())
		for ctx.Err() == nil {
			_, _ = killer.Exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", c.Schema)
			time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
		}
	})
	var want []string
	failed := 0
	for n := int64(1); n <= 100 || failed < 3 && t.Context().Err() == nil; n++ { // they may all be done before the killer is there
		for {
			err := s.Commit(t.Context(), commit(n, fmt.Sprint(n)))
			if err == nil {
				break
			}
			require.True(t, leat.IsTransient(err), "%v", err)
			failed++
		}
		want = append(want, fmt.Sprint(n))
	}
	cancel()
	wg.Wait()
	requireHeld(t, c, int64(len(want)), want...)
}

// A server that is away is waited for (rule B8), and no password is told.
func TestTransient(t *testing.T) {
	t.Parallel()
	c := config(t)
	s := open(t, c)
	take(t, s, "a")
	exec(t, t.Context(), "BEGIN; LOCK TABLE "+c.Schema+".leat_state_partitions; COMMIT")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.Commit(ctx, commit(1)), context.Canceled)
	require.NoError(t, s.Commit(t.Context(), commit(1)))

	short := c
	short.Timeout = 200 * time.Millisecond
	s = open(t, short)
	take(t, s, "a")
	blocker, err := pgx.Connect(t.Context(), dsn(t))
	require.NoError(t, err)
	defer blocker.Close(context.Background())
	tx, err := blocker.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "LOCK TABLE "+c.Schema+".leat_state_partitions")
	require.NoError(t, err)
	err = s.Commit(t.Context(), commit(2))
	require.True(t, leat.IsTransient(err), "%v", err)
	require.ErrorContains(t, err, "PostgresConfig.Timeout, 200ms", "where there is more to do than fits in, trying again is no use")
	require.NoError(t, tx.Rollback(t.Context()))
	require.NoError(t, s.Commit(t.Context(), commit(2)))
}

// Damage is found out, whatever row it is in (rule E1).
func TestDamage(t *testing.T) {
	t.Parallel()
	for _, sql := range []string{
		"UPDATE {p} SET next_offset = next_offset + 1",
		"UPDATE {p} SET next_offset = NULL",
		"UPDATE {p} SET resume = 'x'",
		"UPDATE {p} SET log = ''",
		"UPDATE {p} SET state = replace(state, 'MQ', 'Mg')",
		"UPDATE {p} SET sum = sum + 1",
		"UPDATE {p} SET partition = 'a' WHERE partition = 'b'",
		"UPDATE {s} SET data = 'y'",
		"UPDATE {s} SET n = n + 10",
		"UPDATE {s} SET stage = 's' WHERE stage = 'u'",
		"UPDATE {s} SET parts = 1",
		"DELETE FROM {s} WHERE part = 1",
		"DELETE FROM {s} WHERE n = 0",
		"DELETE FROM {s}",
	} {
		t.Run(sql, func(t *testing.T) {
			t.Parallel()
			c := config(t)
			s := open(t, c)
			take(t, s, "a", "b")
			cp := commit(1, "1", strings.Repeat("x", 3<<20), "3")
			cp.Partitions["b"] = leat.StateChange{Position: leat.Position{Next: 9}, Note: leat.StateNote{Stages: map[string]string{"u": ""}}}
			cp.Pieces = append(cp.Pieces, leat.StatePiece{Stage: "u", Partition: "b", Data: []byte("1")})
			require.NoError(t, s.Commit(t.Context(), cp))
			if strings.HasPrefix(sql, "UPDATE {p} SET partition") {
				exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_partitions WHERE partition = 'a'")
			}
			if strings.HasPrefix(sql, "UPDATE {s} SET stage") {
				exec(t, t.Context(), "DELETE FROM "+c.Schema+".leat_state_pieces WHERE stage = 's' AND n = 0")
				sql = "UPDATE {s} SET stage = 's', partition = 'a' WHERE stage = 'u'"
			}
			sql = strings.NewReplacer("{p}", c.Schema+".leat_state_partitions", "{s}", c.Schema+".leat_state_pieces").Replace(sql)
			require.NotZero(t, exec(t, t.Context(), sql))
			held, err := s.Take(t.Context(), []string{"a"})
			if err == nil {
				_, err = held["a"].Pieces(t.Context(), "s")
			}
			require.ErrorIs(t, err, state.ErrCorrupt)
			require.False(t, leat.IsTransient(err))
			require.ErrorContains(t, err, "backup", "it says what to do")
		})
	}
}

// rule H6: tables of a newer program are refused; the step from nothing to version 1 is the
// upgrade path at work, and a later one is tested in schema_internal_test.go.
func TestNewerTables(t *testing.T) {
	t.Parallel()
	c := config(t)
	s := open(t, c)
	take(t, s, "a")
	require.NoError(t, s.Commit(t.Context(), commit(1)))
	exec(t, t.Context(), "UPDATE "+c.Schema+".leat_state_version SET version = 99")
	_, err := s.Take(t.Context(), []string{"a"})
	require.ErrorIs(t, err, state.ErrNewer)
	require.ErrorIs(t, state.Postgres(c).Open(t.Context(), "p"), state.ErrNewer)
}

// A store keeps what one pipeline has taken: another one would take its connection in the middle of a call.
func TestOpenedTwice(t *testing.T) {
	t.Parallel()
	s := open(t, config(t))
	take(t, s, "b")
	require.ErrorContains(t, s.Open(t.Context(), "other"), "each makes its own")
	require.NoError(t, s.Close(), "the engine's, after an Open that failed: it is not of the one that is open")
	take(t, s, "a")
	require.NoError(t, s.Commit(t.Context(), commit(1)))
	require.NoError(t, s.Close())
	require.NoError(t, s.Open(t.Context(), "other"), "one after the other is fine")
}

// Many processes that start at once make the tables once.
func TestManyOpenAtOnce(t *testing.T) {
	t.Parallel()
	c := config(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s := state.Postgres(c)
			defer s.Close()
			if err := s.Open(t.Context(), "p"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}
