package csvsource

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/filesource/filetest"
	"github.com/leatgo/leat/source/files"
)

// Reprocess: the same file again, with a range of offsets of its own, from where it
// lies.
func TestReprocess(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file, text string
		config     func(c *Config[rec])
		between    func(w *world)
		ids        []int64
		statuses   []string
	}{
		"kept": {
			file: "a.csv", text: ab, ids: []int64{1, 2, 1, 2}, statuses: []string{"a.csv ok", "a.csv ok"},
		},
		"moved": {
			file: "a.csv", text: ab, config: func(c *Config[rec]) { c.After = files.Move },
			ids: []int64{1, 2, 1, 2}, statuses: []string{"a.csv ok processed/a.csv", "a.csv ok processed/a.csv"},
		},
		"put back into the folder": {
			file: "a.csv", text: ab, config: func(c *Config[rec]) { c.After = files.Move },
			between: func(w *world) { require.NoError(w.T, os.Rename(w.Beside("processed/a.csv"), w.Path("a.csv"))) },
			ids:     []int64{1, 2, 1, 2}, statuses: []string{"a.csv ok processed/a.csv", "a.csv ok processed/a.csv"},
		},
		"gone": {
			file: "a.csv", text: ab, config: func(c *Config[rec]) { c.After = files.Move },
			between: func(w *world) { require.NoError(w.T, os.Remove(w.Beside("processed/a.csv"))) },
			ids:     []int64{1, 2}, statuses: []string{"a.csv ok", "a.csv failed"},
		},
		"failed, with the fault still there": {
			file: "a.csv", text: "id\n1\n", config: func(c *Config[rec]) { c.After = files.Move },
			ids: []int64{}, statuses: []string{"a.csv failed failed/a.csv", "a.csv failed failed/a.csv"},
		},
		"in a subfolder, compressed": {
			file: "x/a.csv.gz", text: filetest.Gzip(ab), config: func(c *Config[rec]) { c.After, c.Recursive = files.Move, true },
			ids: []int64{1, 2, 1, 2}, statuses: []string{"x/a.csv.gz ok processed/x/a.csv.gz", "x/a.csv.gz ok processed/x/a.csv.gz"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Put(tc.file, tc.text)
			c := w.config()
			if tc.config != nil {
				tc.config(&c)
			}
			w.must(c)
			w.must(c)
			require.NoError(t, files.Reprocess(w.State, "src", tc.file))
			require.ErrorContains(t, files.Reprocess(w.State, "src", tc.file), "is pending: the next run reads it anyway")
			if tc.between != nil {
				tc.between(w)
			}
			w.must(c)
			w.must(c)
			require.Equal(t, tc.ids, w.IDs())
			require.Equal(t, tc.statuses, w.Statuses())
			h := w.Ledger()
			require.Equal(t, []int{0, 1}, []int{h[0].Again, h[1].Again})
			require.Equal(t, h[0].Hash, h[1].Hash)
			require.Greater(t, h[1].Offset, h[0].Offset)
			require.Greater(t, h[1].Attempt, h[0].Attempt-1)
			if n := len(w.Rows); n == 4 {
				require.Equal(t, w.Rows[0].Offset+h[1].Offset, w.Rows[2].Offset, "new offsets")
				require.Equal(t, tc.file, w.Rows[2].File)
			}
			for _, dir := range []string{"processed", "failed"} {
				require.LessOrEqual(t, len(w.inDir(w.Beside(dir))), 1)
			}
		})
	}
	t.Run("failed, and the program is mended: it moves to processed/, and both entries know", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Put("a.csv", "id,text\n1,bad\n")
		c := w.config()
		c.After = files.Move
		require.NoError(t, w.live(c, life{Commit: -1, Hear: true, RejectFile: true}))
		require.Equal(t, []string{"a.csv failed failed/a.csv"}, w.Statuses())
		require.NoError(t, files.Reprocess(w.State, "src", "a.csv"))
		w.must(c)
		require.Equal(t, []string{"a.csv failed processed/a.csv", "a.csv ok processed/a.csv"}, w.Statuses())
		require.Empty(t, w.inDir(w.Beside("failed")))
		require.NoError(t, files.Reprocess(w.State, "src", "a.csv"))
		w.must(c)
		require.Equal(t, 2, w.Ledger()[2].Again)
		first := w.IDs()
		w.Held, w.Rows = leat.Position{}, nil
		w.must(c)
		require.Equal(t, first, w.IDs(), "an empty sink gets all of it again")
	})
	t.Run("of the latest version", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Put("a.csv", ab)
		w.must(w.config())
		w.Put("a.csv", row1(7))
		w.must(w.config())
		require.NoError(t, files.Reprocess(w.State, "src", "a.csv"))
		w.must(w.config())
		require.Equal(t, []int64{1, 2, 7, 7}, w.IDs())
	})
	t.Run("refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		require.ErrorIs(t, files.Reprocess(w.State, "src", "a.csv"), os.ErrNotExist, "a source that never ran")
		require.NoError(t, os.Symlink("nowhere", w.Path("link.csv")))
		w.must(w.config())
		require.ErrorContains(t, files.Reprocess(w.State, "src", "a.csv"), "a.csv was never entered into")
		require.ErrorContains(t, files.Reprocess(w.State, "src", "link.csv"), "was refused, never read: link.csv is refused")
		src := New(w.config())
		require.NoError(t, src.Drive(t.Context(), &plainIntake[rec]{env: w.Env()}))
		require.ErrorContains(t, files.Reprocess(w.State, "src", "a.csv"), "in use by a running pipeline")
		require.NoError(t, src.Close())
	})
}

// rule B2: a file with a bad row is refused whole, before any of its rows is sent.
func TestB2RejectFile(t *testing.T) {
	t.Parallel()
	bad := "id,text\n1,x\n2,bad\n3,x\n4,bad\n"
	for name, tc := range map[string]struct {
		files    map[string]string
		after    files.After
		statuses []string
		error    string
		ids      []int64
	}{
		"kept":       {map[string]string{"a.csv": bad, "b.csv": row1(7)}, files.Keep, []string{"a.csv failed", "b.csv ok"}, "rejected whole: 2 bad rows, the first: line 3: a bad word", []int64{7}},
		"moved":      {map[string]string{"a.csv": bad, "b.csv": row1(7)}, files.Move, []string{"a.csv failed failed/a.csv", "b.csv ok processed/b.csv"}, "rejected whole: 2 bad rows", []int64{7}},
		"compressed": {map[string]string{"a.csv.gz": filetest.Gzip(bad), "b.csv": row1(7)}, files.Keep, []string{"a.csv.gz failed", "b.csv ok"}, "rejected whole: 2 bad rows, the first: line 3: a bad word", []int64{7}},
		"damaged":    {map[string]string{"a.csv.gz": filetest.Gzip("id,text\n1,x\n" + strings.Repeat("2,y\n", 10_000))[:60], "b.csv": row1(7)}, files.Keep, []string{"a.csv.gz failed", "b.csv ok"}, "rejected whole: the gzip file is truncated", []int64{7}},
		"good":       {map[string]string{"a.csv": ab, "b.csv": row1(7)}, files.Keep, []string{"a.csv ok", "b.csv ok"}, "", []int64{1, 2, 7}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			for n, text := range tc.files {
				w.Put(n, text)
			}
			c := w.config()
			c.After, c.ChunkBytes = tc.after, 4
			l := life{Commit: -1, Hear: true, RejectFile: true}
			require.NoError(t, w.live(c, l))
			require.Equal(t, tc.ids, w.IDs())
			require.Equal(t, tc.statuses, w.Statuses())
			require.Contains(t, w.Ledger()[0].Error, tc.error)
			require.NotContains(t, w.Log.String(), "bad word", "logs hold no text of files")
			told := len(w.Told())
			require.NoError(t, w.live(c, l))
			require.Equal(t, tc.ids, w.IDs())
			require.Len(t, w.Ledger(), len(tc.files), "the verdict stands")
			require.Len(t, w.Told(), told)
		})
	}
	t.Run("mended", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Put("a.csv", bad)
		l := life{Commit: -1, Hear: true, RejectFile: true}
		require.NoError(t, w.live(w.config(), l))
		w.Put("a.csv", strings.ReplaceAll(bad, "bad", "good"))
		require.NoError(t, w.live(w.config(), l))
		require.Equal(t, []int64{1, 2, 3, 4}, w.IDs())
	})
	t.Run("no pass once a sink holds a row", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.Put("a.csv", bad)
		c := w.config()
		c.ChunkBytes = 4
		require.ErrorIs(t, w.live(c, life{StopAfter: 2, Commit: 1, Hear: true}), filetest.ErrKilled)
		require.NoError(t, w.live(c, life{Commit: -1, Hear: true, RejectFile: true}))
		require.Equal(t, []int64{1, 2, 3, 4}, w.IDs(), "the policy came too late for this file")
	})
	t.Run("put there once more after the verdict", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		c := w.config()
		c.After = files.Move
		for range 2 {
			w.Put("a.csv", bad)
			require.NoError(t, w.live(c, life{Commit: -1, Hear: true, RejectFile: true}))
		}
		w.Put("a.csv", bad)
		w.must(c)
		require.Equal(t, []string{"a.csv failed failed/a.csv", "a.csv failed failed/a.2.csv", "a.csv ok processed/a.csv"}, w.Statuses())
	})
}

// rule B4: a dead letter's record is decoded once more.
func TestDecodeLetter(t *testing.T) {
	t.Parallel()
	src := New(Config[rec]{Dir: "in", MaxRecord: 1000})
	letter := leat.DeadLetter{ID: "l1", Class: leat.Transform, File: "x/a.csv", Line: 17, Offset: 4711, Header: "text,other,id", Raw: []byte("hello,,5")}
	for name, tc := range map[string]struct {
		change func(l *leat.DeadLetter)
		want   *rec   // nil: no row
		reject string // column and rule
		err    string
	}{
		"a record":                {func(*leat.DeadLetter) {}, &rec{ID: 5, Text: "hello", File: "x/a.csv", Line: 17, Offset: 4711}, "", ""},
		"quoted, over lines":      {func(l *leat.DeadLetter) { l.Raw = []byte("\"a\r\n\"\"b\"\"\",x,6") }, &rec{ID: 6, Text: "a\r\n\"b\"", File: "x/a.csv", Line: 17, Offset: 4711}, "", ""},
		"with its line end":       {func(l *leat.DeadLetter) { l.Raw = []byte("a,b,6\r\n") }, &rec{ID: 6, Text: "a", File: "x/a.csv", Line: 17, Offset: 4711}, "", ""},
		"a value at fault":        {func(l *leat.DeadLetter) { l.Raw = []byte("hello,,x5"); l.Class = leat.Decode }, nil, "id/syntax", ""},
		"an empty number":         {func(l *leat.DeadLetter) { l.Raw = []byte("hello,,") }, nil, "id/empty", ""},
		"ragged":                  {func(l *leat.DeadLetter) { l.Raw = []byte("hello,5") }, nil, "/fields", ""},
		"a misplaced quote":       {func(l *leat.DeadLetter) { l.Raw = []byte("he\"llo,,5") }, nil, "/quote", ""},
		"a forgotten quote":       {func(l *leat.DeadLetter) { l.Raw = []byte("\"hello,,5") }, nil, "/quote", ""},
		"another header order":    {func(l *leat.DeadLetter) { l.Header, l.Raw = "id,text", []byte("1,x") }, &rec{ID: 1, Text: "x", File: "x/a.csv", Line: 17, Offset: 4711}, "", ""},
		"cut because it was long": {func(l *leat.DeadLetter) { l.Class, l.Rule = leat.Decode, "size" }, nil, "", "dead letter l1 (x/a.csv, line 17): the record was longer than MaxRecord, so that only its first 8 bytes were kept"},
		"longer than the limit":   {func(l *leat.DeadLetter) { l.Raw = []byte(strings.Repeat("x", 1001)) }, nil, "", "its 1001 bytes are more than MaxRecord, 1000"},
		"no bytes":                {func(l *leat.DeadLetter) { l.Raw = nil }, nil, "", "it has no original bytes"},
		"no header":               {func(l *leat.DeadLetter) { l.Header = "" }, nil, "", "it has no header line"},
		"a header of another row": {func(l *leat.DeadLetter) { l.Header = "a,b" }, nil, "", `it misses the columns "id", "text"`},
		"a header of two lines":   {func(l *leat.DeadLetter) { l.Header = "id,text\n1,x" }, nil, "", "its header is more than one line"},
		"two records":             {func(l *leat.DeadLetter) { l.Raw = []byte("a,b,6\nc,d,7\n") }, nil, "", "its bytes are more than one record"},
		"an empty line":           {func(l *leat.DeadLetter) { l.Raw = []byte("\n") }, nil, "", "its bytes are no record"},
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
			var fault *leat.FieldError
			require.ErrorAs(t, rejected, &fault)
			require.Equal(t, tc.reject, fault.Column+"/"+fault.Rule)
		})
	}
}

// Every kind of letter that the reading of a file makes is decoded as it was read.
func TestDecodeLetterOfEachRecord(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	text := "id,text\n1,x\nbad,y\n2,\"a\nb\"\n3\n4,q\"q\n5,\"open\n6,z\n"
	w.Put("a.csv", text)
	src := New(w.config())
	ch, err := decodeOf(src, w.Path("a.csv"))
	require.NoError(t, err)
	rejected := map[int]string{}
	all := new(leat.Batch[rec])
	ch.decode(all, func(i int, err error) { rejected[i] = err.Error() })
	records := all.Len() + len(rejected)
	require.Equal(t, 7, records)
	numbers := make([]int, records)
	for i := range numbers {
		numbers[i] = i
	}
	row := 0
	for i, o := range ch.Locate(numbers) {
		out := new(leat.Batch[rec])
		require.NoError(t, src.DecodeLetter(leat.DeadLetter{Raw: o.Raw, Header: o.Header, File: o.File, Line: o.Line, Offset: o.Offset}, out, i))
		if rejected[i] != "" {
			require.Zero(t, out.Len(), fmt.Sprint(i, rejected[i]))
			continue
		}
		require.Equal(t, all.Rows()[row], out.Rows()[0])
		row++
	}
}

// A panic in OnFile is the user's: the file's status stands, and the others go on.
func TestOnFilePanics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", ab)
	w.Put("b.csv", row1(3))
	c := w.config()
	n := 0
	c.OnFile = func(files.Event) {
		n++
		panic("oh")
	}
	w.must(c)
	require.Equal(t, 2, n)
	require.Equal(t, []string{"a.csv ok", "b.csv ok"}, w.Statuses())
	require.Equal(t, 2, w.says("OnFile panicked; the file's status stands"))
}

// Config.OnFile tells what became of each file, once.
func TestOnFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Put("a.csv", "id,text\n1,x\nbad,y\n")
	w.Put("b.csv", "id,text\n1,x\nbad,y\n")
	w.Put("c.csv", "nothing\n")
	w.Put("d.csv.gz", filetest.Gzip("id,text\n" + strings.Repeat("4,abcdefgh\n5,x\n", 4000))[:120])
	w.must(w.config())
	w.must(w.config())
	require.Equal(t, []string{"b.csv skipped", "c.csv failed", "a.csv ok", "d.csv.gz failed"}, w.Told())
	a := w.Events[2]
	require.Equal(t, []int64{2, 1}, []int64{a.Rows, a.Rejected})
	require.Positive(t, a.Duration)
	require.Equal(t, "same content as a.csv (file 1)", w.Events[0].Error)
	require.Zero(t, w.Events[0].Duration)
	require.Contains(t, w.Events[3].Error, "the gzip file is truncated")
	require.Contains(t, w.Events[3].Reason, "the gzip file is truncated")
	require.Contains(t, w.Events[1].Error, `"nothing"`)
	require.NotContains(t, w.Events[1].Reason, "nothing", "what a message may say does not quote the file")
	require.Contains(t, w.Events[1].Reason, `it misses the columns "id", "text"`)
}

// Where a replayed row came from is where its letter's record did.
func TestDecodeLetterOrigins(t *testing.T) {
	t.Parallel()
	type origins struct {
		ID   int64     `leat:"id"`
		File string    `leat:"@file"`
		Line int64     `leat:"@line"`
		At   int64     `leat:"@offset"`
		When time.Time `leat:"@timestamp"`
	}
	when := time.Date(2025, 3, 1, 12, 0, 0, 0, time.UTC)
	out := new(leat.Batch[origins])
	l := leat.DeadLetter{Raw: []byte("7\n"), Header: "id\n", File: "in/a.csv", Line: 5, Offset: 700, Arrived: when}
	require.NoError(t, New(Config[origins]{Dir: "in"}).DecodeLetter(l, out, 0))
	require.Equal(t, []origins{{7, "in/a.csv", 5, 700, when}}, out.Rows())
}
