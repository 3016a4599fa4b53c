package jsonlines

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func newPath(t *testing.T) string { return filepath.Join(t.TempDir(), "state", "letters.jsonl") }

func mustOpen(t *testing.T, path string) *Log {
	t.Helper()
	l, err := Open(path)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

func scan(t *testing.T, path string) (lines []string) {
	t.Helper()
	require.NoError(t, Scan(path, func(line []byte) error {
		lines = append(lines, string(line))
		return nil
	}))
	return lines
}

// Scan must see exactly what Open keeps.
func TestTornLastLine(t *testing.T) {
	t.Parallel()
	long := `"` + strings.Repeat("x", 300<<10) + `"`
	for _, tc := range []struct {
		name, before, after string
	}{
		{"empty", "", ""},
		{"whole", "1\n2\n", "1\n2\n"},
		{"no newline", "1\n{\"a\":", "1\n"},
		{"no newline but JSON", "1\n23", "1\n"},
		{"only a torn line", `{"a"`, ""},
		{"newline but not JSON", "1\n{\"a\"\n", "1\n"},
		{"empty last line", "1\n\n", "1\n"},
		{"only a newline", "\n", ""},
		{"zeros", "1\n" + strings.Repeat("\x00", 5000), "1\n"},
		{"not JSON in the middle", "1\noh\n2\n", "1\noh\n2\n"},
		{"not JSON in the middle, then torn", "1\noh\n{", "1\noh\n"},
		{"at most one line is cut", "1\noh\nno\n", "1\noh\n"},
		{"CRLF", "1\r\n2\r\n", "1\r\n2\r\n"},
		{"long last line", "1\n" + long + "\n", "1\n" + long + "\n"},
		{"long torn line", long + "\n" + long, long + "\n"},
		{"only a long torn line", long, ""},
		{"line ends where a chunk begins", strings.Repeat("1", 64<<10-1) + "\n", strings.Repeat("1", 64<<10-1) + "\n"},
		{"newline just before the last chunk", "1\n" + strings.Repeat("1", 64<<10-1) + "\n", "1\n" + strings.Repeat("1", 64<<10-1) + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "letters.jsonl")
			require.NoError(t, os.WriteFile(path, []byte(tc.before), 0o600))
			var want []string
			if tc.after != "" {
				want = strings.Split(strings.TrimSuffix(tc.after, "\n"), "\n")
			}
			require.Equal(t, want, scan(t, path))

			l := mustOpen(t, path)
			require.Equal(t, tc.after, read(t, path))
			require.Equal(t, int64(len(tc.after)), l.Size())
			require.NoError(t, l.Append([]byte("{\"new\":1}\n")))
			require.NoError(t, l.Close())
			require.Equal(t, tc.after+"{\"new\":1}\n", read(t, path))
		})
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := mustOpen(t, path)
	require.NoError(t, l.Append([]byte("1\n")))
	require.NoError(t, l.Append([]byte("{\"a\":2}\n\"three\"\n")))
	require.NoError(t, l.Append(nil))
	require.Equal(t, int64(18), l.Size())
	require.Empty(t, read(t, path), "buffered")
	require.NoError(t, l.Sync())
	require.Equal(t, "1\n{\"a\":2}\n\"three\"\n", read(t, path))
	require.Equal(t, []string{"1", `{"a":2}`, `"three"`}, scan(t, path))
	if runtime.GOOS != "windows" {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o600), info.Mode().Perm())
		info, err = os.Stat(filepath.Dir(path))
		require.NoError(t, err)
		require.Equal(t, fs.FileMode(0o700), info.Mode().Perm())
	}

	line := `"` + strings.Repeat("x", 1000) + "\"\n"
	for range 300 {
		require.NoError(t, l.Append([]byte(line)))
	}
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Greater(t, info.Size(), int64(bufferSize), "a full buffer is written without a Sync")
	require.Equal(t, int64(18+300*len(line)), l.Size())
}

func TestAppendRefuses(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := mustOpen(t, path)
	for name, lines := range map[string]string{
		"no newline":           `{"a":1}`,
		"second has none":      "1\n2",
		"not JSON":             "oh\n",
		"second is not JSON":   "1\n{\n",
		"empty line":           "\n",
		"JSON over more lines": "{\n\"a\":1}\n",
		"too long":             `"` + strings.Repeat("x", MaxLine) + "\"\n",
	} {
		require.ErrorContains(t, l.Append([]byte(lines)), path, name)
	}
	require.NoError(t, l.Close())
	require.Empty(t, read(t, path))
}

// faulty is a file whose next calls can be made to fail.
type faulty struct {
	file
	write, truncate, sync error
	short                 int // how much a failing write writes
	syncs, writes         int
}

func (f *faulty) WriteAt(p []byte, off int64) (int, error) {
	f.writes++
	if f.write != nil {
		n, _ := f.file.WriteAt(p[:min(f.short, len(p))], off)
		return n, f.write
	}
	return f.file.WriteAt(p, off)
}

func (f *faulty) Truncate(size int64) error {
	if f.truncate != nil {
		return f.truncate
	}
	return f.file.Truncate(size)
}

func (f *faulty) Sync() error {
	f.syncs++
	if f.sync != nil {
		return f.sync
	}
	return f.file.Sync()
}

func (f *faulty) Stat() (fs.FileInfo, error) { return f.file.Stat() }

func openFaulty(t *testing.T, path string) (*Log, *faulty) {
	t.Helper()
	f := &faulty{}
	l, err := open(path, func(path string, flag int) (file, error) {
		var err error
		f.file, err = osOpen(path, flag)
		return f, err
	})
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	return l, f
}

func TestFailedWrite(t *testing.T) {
	t.Parallel()
	full := errors.New("no space left")
	big := []byte(`"` + strings.Repeat("x", bufferSize) + "\"\n")
	t.Run("the same Append may be repeated", func(t *testing.T) {
		t.Parallel()
		path := newPath(t)
		l, f := openFaulty(t, path)
		require.NoError(t, l.Append([]byte("1\n")))
		f.write, f.short = full, 100_000
		require.ErrorIs(t, l.Append(big), full)
		require.Equal(t, int64(2), l.Size(), "not taken")
		require.Empty(t, read(t, path), "cut back at once")
		require.ErrorIs(t, l.Append(big), full)
		f.write = nil
		require.NoError(t, l.Append(big))
		require.NoError(t, l.Sync())
		require.Equal(t, "1\n"+string(big), read(t, path))
	})
	t.Run("Sync may be repeated", func(t *testing.T) {
		t.Parallel()
		path := newPath(t)
		l, f := openFaulty(t, path)
		require.NoError(t, l.Append([]byte("1\n2\n")))
		f.write, f.short = full, 3
		require.ErrorIs(t, l.Sync(), full)
		require.Empty(t, read(t, path))
		f.write = nil
		require.NoError(t, l.Sync())
		require.Equal(t, "1\n2\n", read(t, path))
	})
	t.Run("a cut that fails too is made up for", func(t *testing.T) {
		t.Parallel()
		path := newPath(t)
		l, f := openFaulty(t, path)
		f.write, f.short, f.truncate = full, 10, full
		require.ErrorIs(t, l.Append(big), full)
		require.Len(t, read(t, path), 10)
		require.ErrorIs(t, l.Sync(), full, "a Sync does not pass over it")
		f.truncate = nil
		syncs := f.syncs
		require.NoError(t, l.Sync())
		require.Empty(t, read(t, path))
		require.Equal(t, syncs+1, f.syncs, "the cut is durable too")
		f.write = nil
		require.NoError(t, l.Append([]byte("1\n")))
		require.NoError(t, l.Close())
		require.Equal(t, "1\n", read(t, path))
	})
	t.Run("one write per buffer", func(t *testing.T) {
		t.Parallel()
		l, f := openFaulty(t, newPath(t))
		for range 100 {
			require.NoError(t, l.Append([]byte("1\n2\n3\n")))
		}
		require.NoError(t, l.Sync())
		require.Equal(t, 1, f.writes)
	})
}

func TestFailedSync(t *testing.T) {
	t.Parallel()
	eio := errors.New("input/output error")
	path := newPath(t)
	l, f := openFaulty(t, path)
	require.NoError(t, l.Append([]byte("0\n")))
	require.NoError(t, l.Sync())
	require.NoError(t, l.Append([]byte("1\n")))
	f.sync = eio
	require.ErrorIs(t, l.Sync(), eio)
	f.sync = nil
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "0\n", string(text), "rule B3: what may not be durable is not there for the next Open to believe")
	syncs := f.syncs
	for name, err := range map[string]error{
		"Sync": l.Sync(), "Append": l.Append([]byte("2\n")), "Truncate": l.Truncate(0), "Rotate": l.Rotate(), "Close": l.Close(),
	} {
		require.ErrorIs(t, err, eio, name)
		require.ErrorIs(t, err, ErrBroken, name)
		require.ErrorContains(t, err, path, name)
	}
	require.Equal(t, syncs, f.syncs, "no fsync is ever tried again on the same file")
	require.NoError(t, mustOpen(t, path).Sync(), "another Open is another start")
}

func TestSyncDoesNothingTwice(t *testing.T) {
	t.Parallel()
	l, f := openFaulty(t, newPath(t))
	opened := f.syncs
	require.Equal(t, 1, opened, "Open makes durable what it found")
	require.NoError(t, l.Sync())
	require.Equal(t, opened, f.syncs)
	require.NoError(t, l.Append([]byte("1\n")))
	require.NoError(t, l.Sync())
	require.NoError(t, l.Sync())
	require.Equal(t, opened+1, f.syncs)
}

func TestFileChangesUnderTheLog(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(path string) error{
		"deleted":  os.Remove,
		"moved":    func(path string) error { return os.Rename(path, path+".old") },
		"appended": func(path string) error { return os.WriteFile(path, []byte("1\n2\n3\n"), 0o600) },
		"cut":      func(path string) error { return os.Truncate(path, 0) },
		"replaced": func(path string) error {
			return errors.Join(os.Rename(path, path+".old"), os.WriteFile(path, []byte("1\n"), 0o600))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				t.Skip("an open file cannot be moved on Windows")
			}
			path := newPath(t)
			l := mustOpen(t, path)
			require.NoError(t, l.Append([]byte("1\n")))
			require.NoError(t, l.Sync())
			require.NoError(t, change(path))
			require.NoError(t, l.Append([]byte("2\n")))
			require.ErrorIs(t, l.Sync(), ErrBroken, "rule B3: the line is not where a reader looks for it")
		})
	}
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := mustOpen(t, path)
	require.NoError(t, l.Append([]byte("1\n")))
	require.NoError(t, l.Sync())
	committed := l.Size()
	require.NoError(t, l.Append([]byte("22\n")))

	require.Error(t, l.Truncate(-1))
	require.Error(t, l.Truncate(100), "more than there is")
	require.Error(t, l.Truncate(3), "in the middle of a line")
	require.Equal(t, int64(5), l.Size(), "nothing was changed")
	require.NoError(t, l.Truncate(5))
	require.Equal(t, "1\n22\n", read(t, path), "also into what was buffered")
	require.NoError(t, l.Append([]byte("3\n")))
	require.NoError(t, l.Truncate(committed))
	require.Equal(t, committed, l.Size())
	require.NoError(t, l.Append([]byte("4\n")))
	require.NoError(t, l.Close())
	require.Equal(t, "1\n4\n", read(t, path))

	l = mustOpen(t, path)
	require.NoError(t, l.Truncate(0))
	require.Empty(t, read(t, path))
}

func names(t *testing.T, path string) (out []string) {
	t.Helper()
	files, err := Files(path)
	require.NoError(t, err)
	for _, f := range files {
		require.Equal(t, filepath.Dir(path), filepath.Dir(f))
		out = append(out, filepath.Base(f))
	}
	return out
}

func TestRotate(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	require.Empty(t, names(t, path), "not even a folder")
	l := mustOpen(t, path)
	require.NoError(t, l.Rotate(), "nothing to rotate")
	require.Equal(t, []string{"letters.jsonl"}, names(t, path))

	require.NoError(t, l.Append([]byte("1\n")))
	require.NoError(t, l.Rotate())
	require.Zero(t, l.Size())
	require.NoError(t, l.Append([]byte("2\n")))
	require.NoError(t, l.Rotate())
	require.NoError(t, l.Append([]byte("3\n")))
	require.NoError(t, l.Sync())
	require.Equal(t, []string{"letters-000001.jsonl", "letters-000002.jsonl", "letters.jsonl"}, names(t, path))

	dir := filepath.Dir(path)
	require.Equal(t, "1\n", read(t, filepath.Join(dir, "letters-000001.jsonl")))
	require.Equal(t, "2\n", read(t, filepath.Join(dir, "letters-000002.jsonl")))
	require.Equal(t, "3\n", read(t, path))

	// Numbers grow past a million and past gaps; names that only look similar are nobody's business.
	require.NoError(t, os.Remove(filepath.Join(dir, "letters-000001.jsonl")))
	for _, name := range []string{"letters-999999.jsonl", "letters-1.jsonl", "letters-0000009.jsonl", "letters-old-000001.jsonl", "letters-000003.csv"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("0\n"), 0o600))
	}
	require.NoError(t, l.Rotate())
	require.Equal(t, []string{"letters-000002.jsonl", "letters-999999.jsonl", "letters-1000000.jsonl", "letters.jsonl"}, names(t, path))
	require.Equal(t, "3\n", read(t, filepath.Join(dir, "letters-1000000.jsonl")))
}

func TestRotateFails(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	var fail bool
	l, err := open(path, func(path string, flag int) (file, error) {
		if fail {
			return nil, errors.New("too many open files")
		}
		return osOpen(path, flag)
	})
	require.NoError(t, err)
	require.NoError(t, l.Append([]byte("1\n")))
	fail = true
	require.ErrorContains(t, l.Rotate(), "too many")
	require.NoError(t, l.Append([]byte("2\n")), "buffered")
	require.ErrorContains(t, l.Sync(), "too many")
	fail = false
	require.NoError(t, l.Sync())
	require.Equal(t, []string{"letters-000001.jsonl", "letters.jsonl"}, names(t, path))
	require.Equal(t, "2\n", read(t, path))
	require.NoError(t, l.Rotate())
	require.NoError(t, l.Close())
	require.Equal(t, []string{"letters-000001.jsonl", "letters-000002.jsonl", "letters.jsonl"}, names(t, path))
}

// Without a rename that does not replace it is a link and a removal; a crash in between leaves two names of one file.
func TestHalfARotation(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := mustOpen(t, path)
	require.NoError(t, l.Append([]byte("1\n")))
	require.NoError(t, l.Close())
	if err := os.Link(path, rotatedName(path, 1)); err != nil {
		t.Skip(err)
	}
	l = mustOpen(t, path)
	require.NoError(t, l.Append([]byte("2\n")))
	require.NoError(t, l.Close())
	require.Equal(t, "1\n", read(t, rotatedName(path, 1)))
	require.Equal(t, "2\n", read(t, path))
}

func TestClosed(t *testing.T) {
	t.Parallel()
	l := mustOpen(t, newPath(t))
	require.NoError(t, l.Append([]byte("1\n")))
	require.NoError(t, l.Close())
	require.NoError(t, l.Close())
	require.ErrorIs(t, l.Append([]byte("2\n")), ErrClosed)
	require.ErrorIs(t, l.Sync(), ErrClosed)
	require.ErrorIs(t, l.Rotate(), ErrClosed)
	require.ErrorIs(t, l.Truncate(0), ErrClosed)
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	_, err := Open(t.TempDir())
	require.Error(t, err, "a folder")

	path := filepath.Join(t.TempDir(), "x")
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, 3*MaxLine)) // zeros, and no room taken
	_, err = Open(path)
	require.ErrorContains(t, err, "longer than 64 MiB")
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, int64(3*MaxLine), info.Size(), "not cut")
}

func TestScan(t *testing.T) {
	t.Parallel()
	t.Run("lines around the size of the buffer", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "x")
		for _, size := range []int{1, bufferSize - 3, bufferSize - 2, bufferSize - 1, bufferSize, bufferSize + 1, 2*bufferSize - 1, 2 * bufferSize, 5 * bufferSize} {
			want := []string{strings.Repeat("1", size), "2", strings.Repeat("3", size)}
			require.NoError(t, os.WriteFile(path, []byte(strings.Join(want, "\n")+"\n"), 0o600))
			require.True(t, strings.Join(want, "\n") == strings.Join(scan(t, path), "\n"), "%d", size)
		}
	})
	t.Run("an error of yield ends it", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "x")
		require.NoError(t, os.WriteFile(path, []byte("1\n2\n3\n"), 0o600))
		n, stop := 0, errors.New("stop")
		require.Equal(t, stop, Scan(path, func([]byte) error { n++; return stop }))
		require.Equal(t, 1, n)
	})
	t.Run("missing file", func(t *testing.T) {
		t.Parallel()
		require.ErrorIs(t, Scan(filepath.Join(t.TempDir(), "x"), nil), fs.ErrNotExist)
	})
	t.Run("a line without end", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(t.TempDir(), "x")
		require.NoError(t, os.WriteFile(path, []byte("1\n"), 0o600))
		require.NoError(t, os.Truncate(path, 1<<40)) // a terabyte of zeros, and no room taken
		n := 0
		err := Scan(path, func([]byte) error { n++; return nil })
		require.ErrorContains(t, err, "line 2 is longer than 64 MiB")
		require.Equal(t, 1, n)
	})
	t.Run("the longest line", func(t *testing.T) {
		t.Parallel()
		if os.Getenv("LEAT_LONG") != "1" {
			t.Skip("slow with -race; LEAT_LONG=1 runs it")
		}
		path := newPath(t)
		l := mustOpen(t, path)
		line := []byte(`"` + strings.Repeat("x", MaxLine-3) + "\"\n")
		require.Len(t, line, MaxLine)
		require.NoError(t, l.Append(line))
		require.NoError(t, l.Close())
		mustOpen(t, path)
		require.Equal(t, MaxLine-1, len(scan(t, path)[0]))
	})
}

func TestConcurrentUse(t *testing.T) {
	t.Parallel()
	path := newPath(t)
	l := mustOpen(t, path)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				if err := l.Append(fmt.Appendf(nil, "[%d,%d]\n[%d,%d]\n", w, i, w, i)); err != nil {
					t.Error(err)
				}
				if i%25 == 0 {
					if err := errors.Join(l.Sync(), l.Rotate()); err != nil {
						t.Error(err)
					}
				}
				_ = l.Size()
			}
		})
	}
	wg.Wait()
	require.NoError(t, l.Close())
	files, err := Files(path)
	require.NoError(t, err)
	total := 0
	for _, f := range files {
		lines := scan(t, f)
		total += len(lines)
		for i := 0; i < len(lines); i += 2 {
			require.Equal(t, lines[i], lines[i+1], "the lines of one Append stay together")
		}
	}
	require.Equal(t, 4*100*2, total)
}

func FuzzOpen(f *testing.F) {
	for _, seed := range []string{"", "1\n", "1\n2", "{\"a\":1}\n{\"b\"", "\n\n", "oh\n\x00\x00", "1\noh\n2\n[", "\"\\u00\n"} {
		f.Add([]byte(seed), []byte("{\"new\":true}\n"))
	}
	f.Add([]byte("1\n"), []byte("oh\n"))
	f.Fuzz(func(t *testing.T, content, lines []byte) {
		path := filepath.Join(t.TempDir(), "x.jsonl")
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		var before []byte
		if err := Scan(path, func(line []byte) error {
			before = append(append(before, line...), '\n')
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		l, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		kept, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(content, kept) || bytes.Count(content[len(kept):], []byte("\n")) > 1 {
			t.Fatalf("%q became %q", content, kept)
		}
		if cut := content[len(kept):]; len(cut) > 0 && cut[len(cut)-1] == '\n' && json.Valid(cut) {
			t.Fatalf("the good line %q was cut off", cut)
		}
		if !bytes.Equal(before, kept) {
			t.Fatalf("Scan gives %q, Open keeps %q", before, kept)
		}
		want := kept
		if err := l.Append(lines); err == nil {
			want = append(want, lines...)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		appended := len(want) > len(kept)
		if l, err = Open(path); err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if appended && !bytes.Equal(got, want) {
			t.Fatalf("%q, want %q", got, want)
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	l, err := Open(filepath.Join(b.TempDir(), "x.jsonl"))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	line := []byte(`{"id":"0123456789abcdef","time":"2025-01-01T00:00:00Z","pipeline":"ventas","class":"Decode","error":"not a number","raw":"` + strings.Repeat("QUJD", 40) + "\"}\n")
	b.SetBytes(int64(len(line)))
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Append(line); err != nil {
			b.Fatal(err)
		}
		if l.Size() > 64<<20 {
			if err := l.Truncate(0); err != nil {
				b.Fatal(err)
			}
		}
	}
}
