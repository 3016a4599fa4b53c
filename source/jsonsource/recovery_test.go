package jsonsource

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/source/files"
)

// rule D4: a crash in the middle of a file neither loses nor doubles a row, and
// the ledger's counts are right too.
func TestD4RandomCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		r := rand.New(rand.NewPCG(seed, 9))
		w := newWorld(t)
		for i := range 1 + r.IntN(4) {
			w.PutRandomly(r, fmt.Sprintf("f%d.jsonl", i), randomJSON(r, i, r.IntN(30)))
		}
		other := newWorld(t)
		other.Dir = w.Dir
		other.must(other.config())
		want, history := other.Rows, other.Ledger()

		c := w.config()
		if seed%2 == 0 {
			c.After = files.Move
		}
		for lives := 0; lives < 300; lives++ {
			c.ChunkBytes = 1 + r.IntN(200)
			l := filetest.RandomLife(r)
			if err := w.live(c, l); err == nil && l.Commit >= l.StopAfter {
				break
			} else if err != nil {
				require.ErrorIs(t, err, filetest.ErrKilled, "seed %d", seed)
			}
		}
		w.must(c)
		require.Equal(t, want, w.Rows, "rule D4, seed %d", seed)
		require.Equal(t, filetest.Brief(history), filetest.Brief(w.Ledger()), "rule D3, seed %d", seed)
	}
}

// rule D6: offsets and lines are the bytes' alone. Restarted at every record boundary,
// with chunks of another size, the rest is the same.
func TestRestartAtEveryChunk(t *testing.T) {
	t.Parallel()
	for name, pack := range map[string]func(string) string{"a.jsonl": func(s string) string { return s }, "a.ndjson.gz": filetest.Gzip, "a.jsonl.zst": filetest.Zstd} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := randomJSON(rand.New(rand.NewPCG(3, 3)), 1, 40)
			filetest.RestartAtEveryChunk(t, describe, func(w *filetest.World[rec], chunkBytes int) filetest.Source[rec] {
				c := (&world{w}).config()
				c.ChunkBytes = chunkBytes
				return New(c)
			}, name, pack(text))
		})
	}
}

// What is before the damage is delivered, then the file fails, and the next is read.
func TestDamagedCompression(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(7, 7))
	var b strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&b, `{"id":%d,"text":"%x"}`+"\n", i, r.Uint64())
	}
	text := b.String()
	flip := func(s string) string {
		x := []byte(s)
		x[len(x)-6] ^= 1 // the checksum
		return string(x)
	}
	for name, tc := range map[string]struct {
		file, data, want string
		some, all        bool
	}{
		"truncated gzip":      {"a.jsonl.gz", filetest.Gzip(text)[:100_000], "the gzip file is truncated", true, false},
		"gzip with a bad sum": {"a.jsonl.gz", flip(filetest.Gzip(text)), "the gzip file is damaged", true, true},
		"no gzip at all":      {"a.jsonl.gz", text, "the gzip file is damaged", false, false},
		"empty gzip file":     {"a.jsonl.gz", "", "the gzip file is truncated", false, false},
		"damaged at once":     {"a.jsonl.gz", filetest.Gzip(text)[:20], "the gzip file is truncated", false, false},
		"truncated zstd":      {"a.jsonl.zst", filetest.Zstd(text)[:200_000], "the zstd file is truncated", true, false},
		"no zstd at all":      {"a.jsonl.zst", text, "the zstd file is damaged", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Put(tc.file, tc.data)
			w.Put("b.jsonl", `{"id":1,"text":"a"}`)
			c := w.config()
			c.ChunkBytes = 10_000
			w.must(c)
			h := w.Ledger()
			require.Equal(t, "failed", h[0].Status)
			require.Contains(t, h[0].Error, tc.want)
			require.Equal(t, "ok", h[1].Status)
			require.Equal(t, int64(len(w.Rows)-1), h[0].Rows)
			require.Equal(t, tc.some, h[0].Rows > 0)
			if tc.all {
				require.Equal(t, int64(20_000), h[0].Rows)
			}
			for i, row := range w.Rows[:h[0].Rows] { // and no half of a row
				require.Equal(t, int64(i), row.ID)
				require.Contains(t, text, fmt.Sprintf(`{"id":%d,"text":"%s"}`+"\n", row.ID, row.Text))
			}
		})
	}
}

// Files that are JSON, but no lines of it, are refused whole, and the error says what to
// do. Anything else is read: a bad line costs itself.
func TestFilesThatAreNoLines(t *testing.T) {
	t.Parallel()
	const row = `{"id":1,"text":"x"}`
	for name, tc := range map[string]struct{ text, status, err string }{
		"array":            {"[" + row + "," + row + "]", "failed", "its text is one JSON array, not one object on each line: make lines of it, for instance with jq -c '.[]'"},
		"array over lines": {"\xef\xbb\xbf \r\n[\n  " + row + ",\n  " + row + "\n]\n", "failed", "one JSON array"},
		"empty array":      {" [ ]\n", "failed", "one JSON array"},
		"pretty object":    {"{\n  \"id\": 1,\n  \"text\": \"x\"\n}\n", "failed", "its objects go over several lines; each must be on a line of its own: make lines of it, for instance with jq -c"},
		"array first":      {"[1,2]\n" + row + "\n", "ok rejected 1", ""},
		"empty first":      {"[]\n" + row + "\n", "ok rejected 1", ""},
		"torn line first":  {"{\n" + row + "\n", "ok rejected 1", ""},
		"spaces inside":    {" { \"id\":1, \"text\":\"x\" }\n" + row, "ok rejected 0", ""},
		"only white space": {strings.Repeat(" ", 100_000), "ok rejected 1", ""},
		"empty":            {"", "ok rejected 0", ""},
		"a mark alone":     {"\xef\xbb\xbf", "ok rejected 0", ""},
		"blank lines":      {"\n\r\n\n", "ok rejected 0", ""},
		"numbers":          {"1\n2\n", "ok rejected 2", ""},
		"bytes":            {"\x00\x01\xff\n", "ok rejected 1", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for ending, pack := range map[string]func(string) string{".jsonl": func(s string) string { return s }, ".jsonl.gz": filetest.Gzip} {
				w := newWorld(t)
				w.Put("a"+ending, pack(tc.text))
				w.must(w.config())
				e := w.Ledger()[0]
				got := e.Status
				if e.Status == "ok" {
					got = fmt.Sprintf("ok rejected %d", e.Rejected)
				}
				require.Equal(t, tc.status, got, e.Error)
				require.Contains(t, e.Error, tc.err)
			}
		})
	}
}

func TestDefaultGlob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for i, name := range []string{"a.jsonl", "b.ndjson", "c.jsonl.gz", "d.ndjson.zst", "e.json", "f.csv", ".g.jsonl", "sub/h.jsonl"} {
		text := fmt.Sprintf(`{"id":%d,"text":""}`, i)
		switch filepath.Ext(name) {
		case ".gz":
			text = filetest.Gzip(text)
		case ".zst":
			text = filetest.Zstd(text)
		}
		w.Put(name, text)
	}
	w.must(w.config())
	require.Equal(t, []int64{0, 1, 2, 3}, w.IDs())
	c := w.config()
	c.Glob = "*.json"
	w.must(c)
	require.Equal(t, []int64{0, 1, 2, 3, 4}, w.IDs())
	c.Glob, c.Recursive = "", true
	w.must(c)
	require.Equal(t, []int64{0, 1, 2, 3, 4, 7}, w.IDs())
}

// rule B2: a file with a row that its columns can't hold is tried before it is read.
func TestB2RejectFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.jsonl", `{"id":1,"text":"good"}`+"\n"+`{"id":2,"text":"bad"}`)
	w.Put("b.jsonl", `{"id":3,"text":"good"}`)
	l := filetest.Whole()
	l.RejectFile = true
	require.NoError(t, w.live(w.config(), l))
	require.Equal(t, []int64{3}, w.IDs())
	require.Equal(t, "rejected whole: 1 bad row, the first: line 2: a bad word", w.Ledger()[0].Error)
}

// rule B4: a dead letter's record is decoded once more.
func TestDecodeLetter(t *testing.T) {
	t.Parallel()
	src := New(Config[rec]{Dir: "in", MaxRecord: 1000})
	letter := leat.DeadLetter{ID: "l1", Class: leat.Transform, File: "x/a.jsonl", Line: 17, Offset: 4711, Raw: []byte(`{"text":"hello","id":5}`)}
	row := func(id int64, text string) *rec {
		return &rec{ID: id, Text: text, File: "x/a.jsonl", Line: 17, Offset: 4711}
	}
	for name, tc := range map[string]struct {
		change func(l *leat.DeadLetter)
		want   *rec   // nil: no row
		reject string // column and rule
		err    string
	}{
		"a record":                {func(*leat.DeadLetter) {}, row(5, "hello"), "", ""},
		"with its line end":       {func(l *leat.DeadLetter) { l.Raw = []byte("{\"id\":6,\"text\":\"a\"}\r\n") }, row(6, "a"), "", ""},
		"a value at fault":        {func(l *leat.DeadLetter) { l.Raw, l.Class = []byte(`{"id":"x","text":""}`), leat.Decode }, nil, "id/type", ""},
		"no JSON":                 {func(l *leat.DeadLetter) { l.Raw = []byte(`{"id":`) }, nil, "/syntax", ""},
		"cut because it was long": {func(l *leat.DeadLetter) { l.Class, l.Rule = leat.Decode, "size" }, nil, "", "dead letter l1 (x/a.jsonl, line 17): the record was longer than MaxRecord, so that only its first 23 bytes were kept"},
		"longer than the limit":   {func(l *leat.DeadLetter) { l.Raw = []byte(strings.Repeat("x", 1001)) }, nil, "", "its 1001 bytes are more than MaxRecord, 1000"},
		"no bytes":                {func(l *leat.DeadLetter) { l.Raw = nil }, nil, "", "it has no original bytes"},
		"two records":             {func(l *leat.DeadLetter) { l.Raw = []byte("{}\n{}\n") }, nil, "", "its bytes are more than one record"},
		"an empty line":           {func(l *leat.DeadLetter) { l.Raw = []byte("\r\n") }, nil, "", "its bytes are no record"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := letter
			tc.change(&l)
			out := new(leat.Batch[rec])
			var rejected error
			err := src.decodeLetter(&l, out, 3, func(record int, err error) {
				require.Equal(t, 3, record)
				rejected = err
			})
			if tc.err != "" {
				require.ErrorContains(t, err, tc.err)
				require.Zero(t, out.Len())
				return
			}
			require.NoError(t, err)
			if tc.want != nil {
				require.Equal(t, []rec{*tc.want}, out.Rows())
				return
			}
			require.Zero(t, out.Len())
			fault := new(leat.FieldError)
			require.ErrorAs(t, rejected, &fault)
			require.Equal(t, tc.reject, fault.Column+"/"+fault.Rule)
		})
	}
}

// A thousand small files in one go, and nothing to do the second time.
func TestManyFiles(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes some seconds")
	}
	t.Parallel()
	const n = 1000
	w := newWorld(t)
	for i := range n {
		require.NoError(t, os.WriteFile(w.Path(fmt.Sprintf("%05d.jsonl", i)), fmt.Appendf(nil, `{"id":%d,"text":"x"}`, i), 0o644))
	}
	w.must(w.config())
	require.Len(t, w.Rows, n)
	w.must(w.config())
	require.Len(t, w.Rows, n)
}
