package jsonsink_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/jsonsink"
)

type venta struct {
	ID     int64           `json:"id"`
	Ciudad string          `json:"ciudad"`
	Precio float64         `json:"precio"`
	Dec    decimal.Decimal `json:"dec"`
	Hora   time.Time       `json:"hora"`
	Nota   *string         `json:"nota"`
	Bytes  []byte          `json:"bytes"`
	Lista  []int           `json:"lista"`
	Media  sql.Null[int]   `json:"-" leat:"media"`
}

func ventas(n int) []venta {
	rows := make([]venta, n)
	for i := range rows {
		nota := fmt.Sprintf("\"%d\"\n<ñ>\u2028", i)
		rows[i] = venta{ID: math.MaxInt64 - int64(i), Ciudad: []string{"Lima", "Ñuñoa", "a/b"}[i%3], Precio: float64(i) / 3,
			Dec: decimal.New(int64(i), -2), Hora: time.Date(2025, 1, 1, 0, 0, i, i, time.UTC), Bytes: []byte{0, byte(i)}, Lista: []int{i, 2}}
		if i%2 == 0 {
			rows[i].Nota = &nota
		}
	}
	return rows
}

func runs(t *testing.T, p *leat.Pipeline) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	require.NoError(t, p.Run(ctx))
}

// read gives the text of all files that count.
func read(t *testing.T, dir string) string {
	t.Helper()
	files, err := lake.Files(dir)
	require.NoError(t, err)
	var all bytes.Buffer
	for _, info := range files {
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(info.Path)))
		require.NoError(t, err)
		var r io.Reader = f
		switch filepath.Ext(info.Path) {
		case ".gz":
			r, err = gzip.NewReader(f)
			require.NoError(t, err)
		case ".zst":
			z, err := zstd.NewReader(f)
			require.NoError(t, err)
			defer z.Close()
			r = z
		}
		before := bytes.Count(all.Bytes(), []byte("\n"))
		_, err = all.ReadFrom(r)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, int(info.Rows), bytes.Count(all.Bytes(), []byte("\n"))-before)
	}
	return all.String()
}

// What is written is what encoding/json reads, in all compressions; through the
// real engine, over rewinds and restarts, each row once (rules E1, E8).
func TestInThePipeline(t *testing.T) {
	t.Parallel()
	const rows = 5000
	for c, ext := range map[jsonsink.Compression]string{jsonsink.None: ".jsonl", jsonsink.Gzip: ".jsonl.gz", jsonsink.Zstd: ".jsonl.zst"} {
		t.Run(c.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			out := filepath.Join(dir, "out")
			all := ventas(rows + 300)
			for _, n := range []int{rows, rows, rows + 300} {
				p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state"), CheckpointEvery: 5 * time.Millisecond,
					Retry: leat.Retry{First: time.Millisecond, Max: 20 * time.Millisecond}})
				src := leattest.Rows(all[:n]...).Partitions(3)
				src.FailAt(500, leat.Transient(errors.New("network"))).FailAt(1200, leat.Transient(errors.New("network")))
				leat.To(leat.From(p, src), jsonsink.New(jsonsink.Config[venta]{Dir: out, Compression: c, Roll: jsonsink.Roll{Rows: 400},
					PartitionBy: []jsonsink.Partition[venta]{{Name: "ciudad", Value: func(v venta) string { return v.Ciudad }}}}))
				runs(t, p)
			}
			var got []venta
			for line := range strings.Lines(read(t, out)) {
				var v venta
				require.NoError(t, json.Unmarshal([]byte(line), &v))
				require.NotContains(t, line, "ciudad", "a column that is a folder")
				require.Contains(t, line, `"media":null`)
				got = append(got, v)
			}
			slices.SortFunc(got, func(a, b venta) int { return int(b.ID - a.ID) })
			require.Len(t, got, len(all))
			for i := range got {
				want := all[i]
				want.Ciudad = ""
				require.True(t, want.Dec.Equal(got[i].Dec))
				got[i].Dec = want.Dec
				require.Equal(t, want, got[i])
			}
			found := 0
			require.NoError(t, filepath.WalkDir(out, func(p string, d fs.DirEntry, err error) error {
				if d.IsDir() && d.Name() == "_leat" {
					return fs.SkipDir
				}
				if !d.IsDir() {
					found++
					assert.True(t, strings.HasSuffix(p, ext), p)
				}
				return err
			}))
			assert.Greater(t, found, 3)
			assert.DirExists(t, filepath.Join(out, "ciudad=a%2Fb"))
		})
	}
	t.Run("B5, A9: rows without a JSON form are rejected alone", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		type fila struct {
			ID int
			F  float64
			G  grita
		}
		in := make([]fila, 1000)
		for i := range in {
			in[i] = fila{ID: i, G: "a"}
		}
		in[7].F, in[8].F, in[500].G, in[999].G = math.NaN(), math.Inf(-1), "error", "panic"
		p := leat.New("p", leat.Config{StateDir: filepath.Join(dir, "state")})
		leat.To(leat.From(p, leattest.Rows(in...)), jsonsink.New(jsonsink.Config[fila]{Dir: filepath.Join(dir, "out")}))
		runs(t, p)
		assert.Equal(t, 996, strings.Count(read(t, filepath.Join(dir, "out")), "\n"))
		letters, err := os.ReadFile(filepath.Join(dir, "state", "dead-letters.jsonl"))
		require.NoError(t, err)
		assert.Equal(t, 4, bytes.Count(letters, []byte("\n")))
		assert.Contains(t, string(letters), "no voice")
		assert.Contains(t, string(letters), "aaah")
	})
}

// E8: the disk is full between any two steps of a commit, again and again; each row
// is there once. The failpoints are the process's: this test runs alone.
func TestRewinds(t *testing.T) {
	const rows = 10_000
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	hits := map[string]int{}
	failures := 0
	failpoint.Set(func(at string) error {
		if !strings.HasPrefix(at, "lake/") {
			return nil
		}
		hits[at]++
		if failures < 40 && r.IntN(15) == 0 {
			failures++
			return fmt.Errorf("%s: %w", at, syscall.ENOSPC)
		}
		return nil
	})
	defer failpoint.Set(nil)
	p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state"), CheckpointEvery: 2 * time.Millisecond,
		Retry: leat.Retry{First: time.Millisecond, Max: 5 * time.Millisecond}})
	leat.To(leat.From(p, leattest.Rows(ventas(rows)...).Partitions(3).Batches(50)), jsonsink.New(jsonsink.Config[venta]{Dir: filepath.Join(dir, "out"), Roll: jsonsink.Roll{Rows: 100},
		PartitionBy: []jsonsink.Partition[venta]{{Name: "ciudad", Value: func(v venta) string { return v.Ciudad }}}}))
	runs(t, p)
	ids := map[int64]bool{}
	for line := range strings.Lines(read(t, filepath.Join(dir, "out"))) {
		var v venta
		require.NoError(t, json.Unmarshal([]byte(line), &v))
		require.False(t, ids[v.ID], "twice")
		ids[v.ID] = true
	}
	require.Len(t, ids, rows)
	t.Log(failures, "failures", hits)
	require.Positive(t, failures)
}

type grita string

func (g grita) MarshalText() ([]byte, error) {
	switch g {
	case "error":
		return nil, errors.New("no voice")
	case "panic":
		panic("aaah")
	}
	return []byte(g + "!"), nil
}

// F6: of two columns whose names differ in the case of letters, one in the files and one in their folders,
// DuckDB 2.0 shows the folder's under the name of both, and 1.1 can't read the files.
func TestLevelsNamedLikeColumns(t *testing.T) {
	t.Parallel()
	type fila struct{ ID, Pais string }
	level := func(names ...string) (levels []jsonsink.Partition[fila]) {
		for _, name := range names {
			levels = append(levels, jsonsink.Partition[fila]{Name: name, Value: func(f fila) string { return f.Pais }})
		}
		return levels
	}
	assert.NoError(t, jsonsink.New(jsonsink.Config[fila]{Dir: "x", PartitionBy: level("pais")}).Validate(), "the column stays out of the files")
	assert.ErrorContains(t, jsonsink.New(jsonsink.Config[fila]{Dir: "x", PartitionBy: level("Pais")}).Validate(), "jsonsink: the column pais and the level Pais of PartitionBy")
	assert.ErrorContains(t, jsonsink.New(jsonsink.Config[fila]{Dir: "x", PartitionBy: level("a", "A")}).Validate(), `jsonsink: PartitionBy[1]: the name "A" is there twice`)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type one struct{ A string }
	value := func(one) string { return "" }
	s := jsonsink.New(jsonsink.Config[one]{Compression: 7, MaxOpen: -1, PartitionBy: []jsonsink.Partition[one]{{Name: "a", Value: value}, {Name: "x/y", Value: value}}})
	err := s.Validate()
	for _, want := range []string{"jsonsink: Dir is empty", "jsonsink: Compression 7", "jsonsink: MaxOpen is -1", `jsonsink: PartitionBy[1]: the name "x/y" holds '/'`, "takes all columns"} {
		assert.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, s.Open(t.Context(), leat.Env{}), "Dir is empty")
	assert.ErrorContains(t, jsonsink.New(jsonsink.Config[int]{Dir: "x"}).Validate(), "jsonsink: row type int is not a struct")
	assert.ErrorContains(t, jsonsink.New(jsonsink.Config[struct{}]{Dir: "x"}).Validate(), "has no columns")
	assert.NoError(t, jsonsink.New(jsonsink.Config[one]{Dir: "x", Roll: jsonsink.Roll{Bytes: -1, Rows: -1, Age: -1, Idle: -1}}).Validate())
	assert.Equal(t, "ventas", jsonsink.New(jsonsink.Config[one]{Dir: "a/ventas/"}).Name())
	assert.Equal(t, "n", jsonsink.New(jsonsink.Config[one]{Name: "n", Dir: "a"}).Name())
	assert.Empty(t, jsonsink.New(jsonsink.Config[one]{}).Name())
	assert.Equal(t, leat.ExactlyOnce, s.Guarantee())
	assert.Equal(t, "compression(9)", jsonsink.Compression(9).String())
}
