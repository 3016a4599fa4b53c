package filetest

import (
	"bufio"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/source/files"
)

// RandomLife ends after a few chunks, of which some are durable.
func RandomLife(r *rand.Rand) Life {
	l := Life{StopAfter: 1 + r.IntN(4), Hear: r.IntN(2) == 0}
	l.Commit = r.IntN(l.StopAfter + 1)
	if r.IntN(3) == 0 {
		l.Early = 1 + r.IntN(2)
		l.Commit = max(l.Commit, l.Early)
	}
	return l
}

// PutRandomly writes a file as it is or compressed, in one case of five torn.
func (w *World[R]) PutRandomly(r *rand.Rand, name, text string) {
	w.T.Helper()
	switch r.IntN(5) {
	case 0:
		name, text = name+".gz", Gzip(text)
	case 1:
		name, text = name+".zst", Zstd(text)
	case 2:
		name, text = name+".gz", Gzip(text)
		text = text[:len(text)*3/4]
	}
	w.Put(name, text)
}

// RestartAtEveryChunk is rule D6: offsets and lines are the bytes' alone. Restarted at
// every record boundary, with chunks of another size, the rest is the same.
func RestartAtEveryChunk[R any](t *testing.T, describe func(R) Row, source func(w *World[R], chunkBytes int) Source[R], name, text string) {
	t.Helper()
	all := New(t, describe)
	all.Put(name, text)
	require.NoError(t, all.Live(t.Context(), source(all, 1), Whole()))
	require.NotEmpty(t, all.Rows)
	for k := 1; ; k++ {
		w := New(t, describe)
		w.Put(name, text)
		err := w.Live(t.Context(), source(w, 1), Life{StopAfter: k, Commit: k, Hear: k%2 == 0})
		if err == nil {
			break
		}
		if k%3 == 0 {
			w.Held.Resume = "not ours" // the offset decides
		}
		require.NoError(t, w.Live(t.Context(), source(w, 64), Whole()))
		require.Equal(t, all.Rows, w.Rows, "after %d chunks", k)
	}
}

// Letter is what CheckLoad reads of a dead letter.
type Letter struct {
	Class, Error, File, Header string
	Line, Offset               int64
	Raw                        []byte
}

// CheckLoad looks at what the real engine has made of count files with each records,
// whose IDs go on from 0 and of which every tenth is bad: the rows got, the ledger, and
// the dead letters, of which letter checks what is the format's own. The state lies in
// root/state.
func CheckLoad(t *testing.T, root string, got []int64, count, each int, letter func(l Letter)) {
	t.Helper()
	var want []int64
	for id := range int64(count * each) {
		if id%10 != 9 {
			want = append(want, id)
		}
	}
	require.Equal(t, want, got, "rule D4")
	history, err := files.Ledger(filepath.Join(root, "state"), Name)
	require.NoError(t, err)
	require.Len(t, history, count)
	for _, e := range history {
		require.Equal(t, "ok", e.Status, e.Name)
		require.Equal(t, int64(each), e.Rows, e.Name)
		require.Equal(t, int64(each/10), e.Rejected, e.Name)
	}

	// rules B3, B4: each bad record once, with its bytes and its place.
	f, err := os.Open(filepath.Join(root, "state", "dead-letters.jsonl"))
	require.NoError(t, err)
	defer f.Close()
	letters := 0
	for s := bufio.NewScanner(f); s.Scan(); letters++ {
		var l Letter
		require.NoError(t, json.Unmarshal(s.Bytes(), &l))
		require.Equal(t, "Decode", l.Class)
		letter(l)
		require.Positive(t, l.Line)
		require.NotEmpty(t, l.File)
	}
	require.Equal(t, count*each/10, letters)
}
