package folder

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/sealed"
)

func newLedger(t *testing.T) (string, *ledger) {
	t.Helper()
	dir := t.TempDir()
	l, err := openLedger(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.close() })
	return dir, l
}

func fileEvent(seq, base, extent int64, name string) event {
	return event{Event: "file", Seq: seq, Name: name, Hash: hexHash(name), Size: extent - 1, Base: base, Extent: extent, Status: Pending}
}

func hexHash(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:])
}

func ledgerText(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, LedgerFile))
	require.NoError(t, err)
	return string(b)
}

func TestLedgerKeepsItsID(t *testing.T) {
	t.Parallel()
	dir, l := newLedger(t)
	require.Len(t, l.log, 32)
	again, err := openLedger(dir)
	require.NoError(t, err)
	defer again.close()
	require.Equal(t, l.log, again.log)
	_, other := newLedger(t)
	require.NotEqual(t, l.log, other.log)
}

func TestLedgerRoundTrip(t *testing.T) {
	t.Parallel()
	dir, l := newLedger(t)
	long := fileEvent(2, 11, 1<<36, "β \"quoted\" <b>.csv.gz")
	long.ModTime = time.Date(2026, 1, 2, 3, 4, 5, 678_901_234, time.UTC)
	require.NoError(t, l.append(fileEvent(1, 0, 11, "a.csv"), long))
	require.NoError(t, l.append(
		event{Event: "status", Seq: 1, Status: Processing},
		event{Event: "progress", Seq: 1, Next: 5, Line: 2, Rows: 1},
		event{Event: "progress", Seq: 1, Next: 8, Line: 3, Rows: 2},
		event{Event: "progress", Seq: 1, Next: 6, Line: 2, Rows: 1}, // a sink was set back
		event{Event: "refused", Name: "x", Error: "no"},
		event{Event: "refused", Name: "x", Error: "no, again"},
	))
	require.Equal(t, []progress{{5, 2, 1, 0}, {6, 2, 1, 0}}, l.counts[1])
	require.NoError(t, l.append(
		event{Event: "status", Seq: 1, Status: OK, Rows: 3, Rejected: 1, Next: 11},
		event{Event: "moved", Seq: 1, To: ToProcessed, As: "a.2.csv"},
		event{Event: "abandon", Seq: 2, Error: "by hand"},
	))
	require.NoError(t, l.sync())
	history, err := History(dir)
	require.NoError(t, err)
	require.Len(t, history, 3)
	a := history[0]
	require.Equal(t, []any{OK, int64(3), int64(1), int32(1), int64(11), ToProcessed, "a.2.csv"},
		[]any{a.Status, a.Rows, a.Rejected, a.Attempt, a.Sent, a.Moved, a.MovedTo})
	require.Equal(t, long.Name, history[1].Name)
	require.True(t, history[1].ModTime().Equal(long.ModTime))
	require.True(t, history[1].Abandoned)
	require.Equal(t, "no, again", history[2].Error)
	require.Equal(t, int64(11+1<<36), l.end())
}

// rule D3: a torn last line is repaired, whatever is left of it.
func TestLedgerTornLastLine(t *testing.T) {
	t.Parallel()
	dir, l := newLedger(t)
	require.NoError(t, l.append(fileEvent(1, 0, 11, "a.csv")))
	whole := ledgerText(t, dir)
	require.NoError(t, l.append(event{Event: "status", Seq: 1, Status: Processing}))
	full := ledgerText(t, dir)
	for n := len(whole); n < len(full); n++ {
		for _, tail := range []string{"", "\x00\x00\x00", "\n"} {
			if tail == "\n" && (n == len(whole) || n == len(full)-1) {
				continue
			}
			require.NoError(t, os.WriteFile(filepath.Join(dir, LedgerFile), []byte(full[:n]+tail), 0o600))
			history, err := History(dir)
			require.NoError(t, err, "reading needs no repair")
			require.Len(t, history, 1)
			r, err := openLedger(dir)
			require.NoError(t, err)
			require.Equal(t, whole, ledgerText(t, dir))
			require.NoError(t, r.append(event{Event: "status", Seq: 1, Status: Processing}))
			require.NoError(t, r.close())
			_, err = History(dir)
			require.NoError(t, err)
		}
	}
}

func TestLedgerTornFirstLine(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "{", `{"event":"log","ti`, "\x00\x00"} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, LedgerFile), []byte(text), 0o600))
		l, err := openLedger(dir)
		require.NoError(t, err)
		require.NotEmpty(t, l.log)
		require.NoError(t, l.close())
	}
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, LedgerFile), []byte("my notes"), 0o600))
	_, err := openLedger(dir)
	require.Error(t, err, "somebody else's file is not overwritten")
	require.Equal(t, "my notes", ledgerText(t, dir))
}

// resealed gives each line the checksum of what it says now.
func resealed(text string) string {
	var out []byte
	for line := range strings.Lines(text) {
		if body, ok := strings.CutSuffix(line, "}\n"); ok {
			if n := strings.LastIndex(body, `,"crc":"`); n >= 0 {
				body = body[:n] + body[n+len(`,"crc":"01234567"`):]
			}
			out = sealed.Append(out, []byte(body+"}"))
			continue
		}
		out = append(out, line...)
	}
	return string(out)
}

// Every bit of a ledger counts: a flipped one is damage, or is in the last line, which then
// is as one that was torn.
func TestLedgerEveryFlippedBit(t *testing.T) {
	t.Parallel()
	dir, l := newLedger(t)
	require.NoError(t, l.append(fileEvent(1, 0, 11, "a.csv"), event{Event: "status", Seq: 1, Status: Processing},
		event{Event: "status", Seq: 1, Status: OK, Rows: 3, Next: 11}, fileEvent(2, 11, 21, "b.csv"), event{Event: "status", Seq: 2, Status: Processing}))
	good := ledgerText(t, dir)
	last := strings.LastIndexByte(good[:len(good)-1], '\n') + 1
	for bit := range len(good) * 8 {
		b := []byte(good)
		b[bit/8] ^= 1 << (bit % 8)
		got, err := readLedger("x", bytes.NewReader(b))
		if bit/8 < last-1 {
			var damage *CorruptError
			require.ErrorAs(t, err, &damage, "bit %d: %s", bit, b)
			continue
		}
		if err != nil { // the line end before the last line
			continue
		}
		require.LessOrEqual(t, got.size, int64(last), "bit %d", bit)
		require.GreaterOrEqual(t, len(got.entries), 1)
	}
	for n := range len(good) {
		got, err := readLedger("x", strings.NewReader(good[:n]))
		if err != nil {
			require.Less(t, n, strings.IndexByte(good, '\n')+1)
			continue
		}
		require.Equal(t, int64(strings.LastIndexByte(good[:n], '\n')+1), got.size, "cut at %d", n)
	}
}

// rule H6: a ledger of the version before is read, and gets its checksums when it is opened.
func TestLedgerOfVersion1(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	old := `{"event":"log","time":"2026-01-02T03:04:05Z","log":"0123456789abcdef0123456789abcdef","version":1}` + "\n" +
		`{"event":"file","time":"2026-01-02T03:04:05Z","seq":1,"name":"a.csv","hash":"` + hexHash("a.csv") + `","size":10,"mtime":"2026-01-01T00:00:00Z","extent":11,"status":"pending"}` + "\n" +
		`{"event":"status","time":"2026-01-02T03:04:06Z","seq":1,"status":"processing"}` + "\n"
	require.NoError(t, os.WriteFile(filepath.Join(dir, LedgerFile), []byte(old+`{"event":"sta`), 0o600))
	history, err := History(dir)
	require.NoError(t, err)
	require.Equal(t, Processing, history[0].Status)
	l, err := openLedger(dir)
	require.NoError(t, err)
	require.Equal(t, "0123456789abcdef0123456789abcdef", l.log)
	require.NoError(t, l.append(event{Event: "status", Seq: 1, Status: OK, Rows: 1, Next: 11}))
	require.NoError(t, l.close())
	require.Equal(t, 4, strings.Count(ledgerText(t, dir), `,"crc":"`))
	history, err = History(dir)
	require.NoError(t, err)
	require.Equal(t, OK, history[0].Status)
}

// Other damage is an error that says what to do, and changes nothing.
func TestLedgerDamage(t *testing.T) {
	t.Parallel()
	dir, l := newLedger(t)
	require.NoError(t, l.append(fileEvent(1, 0, 11, "a.csv"), fileEvent(2, 11, 21, "b.csv"), event{Event: "status", Seq: 1, Status: Processing}))
	good := ledgerText(t, dir)
	for name, text := range map[string]string{
		"garbage in the middle":  strings.Replace(good, `"seq":1,`, `"seq":`, 1),
		"a line is gone":         strings.Join(append(strings.SplitAfter(good, "\n")[:1:1], strings.SplitAfter(good, "\n")[2:]...), ""),
		"bases do not fit":       strings.Replace(good, `"base":11`, `"base":12`, 1),
		"unknown file":           strings.Replace(good, `"event":"status","time"`, `"event":"status","seq":9,"time"`, 1) + `{"event":"moved","seq":9}` + "\n",
		"unknown event":          good + `{"event":"dance","seq":1}` + "\n",
		"unknown status":         good + `{"event":"status","seq":1,"status":"odd"}` + "\n",
		"entered with a status":  strings.Replace(good, "pending", "ok", 1),
		"newer format":           strings.Replace(good, `"version":2`, `"version":3`, 1),
		"no id":                  strings.Replace(good, l.log, "", 1),
		"two log lines":          good + strings.SplitAfter(good, "\n")[0],
		"no log line":            strings.SplitAfter(good, "\n")[1],
		"two values on one line": strings.Replace(good, "}\n", "} {}\n", 1),
		"no hash":                strings.Replace(good, hexHash("b.csv"), "h", 1),
		"unknown place":          good + `{"event":"moved","seq":1,"to":"moon"}` + "\n",
		"negative extent":        strings.Replace(good, `"extent":21`, `"extent":-21`, 1),
		"overflow":               strings.Replace(good, `"extent":21`, `"extent":9223372036854775807`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.NotEqual(t, good, text)
			text = resealed(text)
			dir := t.TempDir()
			require.NoError(t, os.WriteFile(filepath.Join(dir, LedgerFile), []byte(text), 0o600))
			_, err := openLedger(dir)
			var damage *CorruptError
			require.ErrorAs(t, err, &damage)
			require.ErrorContains(t, err, "put back a copy from a backup")
			require.Equal(t, text, ledgerText(t, dir))
		})
	}
}

func TestLedgerAfterAFailedSync(t *testing.T) {
	t.Parallel()
	_, l := newLedger(t)
	require.NoError(t, l.append(fileEvent(1, 0, 11, "a.csv")))
	require.NoError(t, l.f.Close()) // sync fails from here on
	require.Error(t, l.sync())
	require.Error(t, l.sync(), "a second sync must not lie")
	require.Error(t, l.append(event{Event: "status", Seq: 1, Status: Processing}))
}

func TestAbandonNeedsTheLock(t *testing.T) {
	t.Parallel()
	dir, l := newLedger(t)
	require.NoError(t, l.append(fileEvent(1, 0, 11, "a.csv")))
	lock, err := tryLock(filepath.Join(dir, lockFile))
	require.NoError(t, err)
	require.ErrorContains(t, Abandon(dir, "a.csv"), "in use by a running pipeline")
	require.NoError(t, lock.Close())
	require.NoError(t, Abandon(dir, "a.csv"))
	require.Error(t, Abandon(t.TempDir(), "a.csv"))
}

func TestHistoryOfNothing(t *testing.T) {
	t.Parallel()
	_, err := History(t.TempDir())
	require.ErrorIs(t, err, os.ErrNotExist)
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		pattern, name string
		want          bool
	}{
		{"*.csv", "a.csv", true}, {"*.csv", ".a.csv", false}, {"*.csv", "x/a.csv", false}, {".*.csv", ".a.csv", true},
		{"*/*.csv", "x/a.csv", true}, {"*/*.csv", ".x/a.csv", false}, {"**/*.csv", "a.csv", true},
		{"**/*.csv", "x/y/a.csv", true}, {"**/*.csv", "x/.y/a.csv", false}, {"x/**", "x/y/z", true},
		{"**/y/*", "x/y/z", true}, {"**/y/*", "x/z", false}, {"a[12].csv", "a2.csv", true}, {"**", "a", true}, {"*", "a/b", false},
	} {
		require.Equal(t, tc.want, matches(strings.Split(tc.pattern, "/"), strings.Split(tc.name, "/")), "%s %s", tc.pattern, tc.name)
	}
	for _, bad := range []string{"", "/a", "../a", "a/../b", "a//b", "["} {
		require.Error(t, checkGlob(bad), bad)
	}
}

func TestNumbered(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"a.csv": "a.2.csv", "a.b.csv": "a.b.2.csv", "a.csv.gz": "a.2.csv.gz", "a": "a.2", ".csv": ".csv.2",
		"x.y/a.csv": "x.y/a.2.csv", "a.gz": "a.2.gz", "x/.gz": "x/.gz.2",
	} {
		require.Equal(t, want, numbered(name, 2))
		require.Equal(t, name, numbered(name, 1))
	}
}

func TestHashIsPromptlyCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	_, _, err := hashAll(ctx, readerFunc(func(p []byte) (int, error) {
		if n++; n == 3 {
			cancel()
		}
		return len(p), nil
	}))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, 3, n)
	_, _, err = hashAll(t.Context(), readerFunc(func([]byte) (int, error) { return 0, errors.New("boom") }))
	require.EqualError(t, err, "boom")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// rule D1: a file that changes while it is hashed is left for later.
func TestD1FileIsStillBeingWritten(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "a.csv")
	require.NoError(t, os.WriteFile(path, []byte("x"), 0o600))
	f, err := Open(t.Context(), Config{
		Dir: dir, Globs: []string{"*"}, StateDir: filepath.Join(t.TempDir(), "s"), Logger: slog.New(slog.DiscardHandler),
		Inspect: func(_ context.Context, _ string, _ *os.File, size int64) (Look, error) {
			return Look{Extent: size}, nil
		},
	})
	require.NoError(t, err)
	defer f.Close()
	file, info, err := f.open("a.csv")
	require.NoError(t, err)
	defer file.Close()
	require.NoError(t, os.WriteFile(path, []byte("xy"), 0o600))
	require.NoError(t, os.Chtimes(path, time.Time{}, info.ModTime().Add(time.Second)))
	c := &checkedFile{ctx: t.Context(), f: file, info: info}
	_, err = c.Read(make([]byte, 10))
	require.ErrorIs(t, err, ErrChanged)

	_, _, err = f.open("../" + filepath.Base(dir) + "/a.csv")
	require.Error(t, err, "rule D5: path traversal")
}

// Any text is read without a panic, or refused; what is read can be appended to.
func FuzzLedger(f *testing.F) {
	dir := f.TempDir()
	l, err := openLedger(dir)
	require.NoError(f, err)
	require.NoError(f, l.append(
		fileEvent(1, 0, 11, "a.csv"), event{Event: "status", Seq: 1, Status: Processing}, event{Event: "progress", Seq: 1, Next: 3, Rows: 1},
		event{Event: "status", Seq: 1, Status: OK, Next: 11}, event{Event: "moved", Seq: 1, To: ToProcessed, As: "a.csv"},
		event{Event: "refused", Name: "b", Error: "x"}, fileEvent(2, 11, 5, "c.csv"), event{Event: "abandon", Seq: 2},
		event{Event: "file", Seq: 3, Name: "a.csv", Hash: hexHash("a.csv"), Size: 10, Base: 16, Extent: 11, Status: Pending, Again: 1, To: ToProcessed, As: "a.csv"},
		event{Event: "fault", Seq: 3, Error: "cut", Next: 20}, event{Event: "status", Seq: 3, Status: Failed, Next: 20, Verdict: true},
		event{Event: "moved", Seq: 3, To: ToFailed, As: "a.csv"},
	))
	text, err := os.ReadFile(l.path)
	require.NoError(f, err)
	f.Add(text)
	f.Add(text[:len(text)-7])
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := readLedger("x", bytes.NewReader(data))
		if err != nil {
			return
		}
		require.LessOrEqual(t, l.size, int64(len(data)))
		again, err := readLedger("x", bytes.NewReader(data[:l.size]))
		require.NoError(t, err, "the whole part can be read")
		require.Equal(t, len(l.entries), len(again.entries))
		require.Equal(t, len(l.refused), len(again.refused))
		end := int64(0)
		for _, e := range l.entries {
			require.Equal(t, end, e.Base)
			end = e.End()
			require.GreaterOrEqual(t, e.Sent, e.Base)
			e.wanted(end/2, true)
		}
		line, err := json.Marshal(event{Event: "refused", Name: "n", Error: "e"})
		require.NoError(t, err)
		_, err = readLedger("x", bytes.NewReader(fmt.Appendf(nil, "%s%s\n", data[:l.size], line)))
		require.NoError(t, err)
	})
}
