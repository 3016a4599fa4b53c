package parquetsink_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/internal/typetest"
)

type venta struct {
	ID     int64
	Dia    time.Time
	Ciudad string
	Precio string `leat:"precio,decimal=9.2"`
}

func ventas(n int) []venta {
	rows := make([]venta, n)
	at := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range rows {
		rows[i] = venta{int64(i), at.AddDate(0, 0, i%3), []string{"Montevideo", "São Paulo/1", ""}[i%3], fmt.Sprintf("%d.%02d", i%100, i%100)}
	}
	return rows
}

func byDayAndCity() []parquetsink.Partition[venta] {
	return []parquetsink.Partition[venta]{
		{Name: "fecha", Value: func(v venta) string { return v.Dia.Format(time.DateOnly) }},
		{Name: "ciudad", Value: func(v venta) string { return v.Ciudad }},
	}
}

func runs(t testing.TB, p *leat.Pipeline) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	require.NoError(t, p.Run(ctx))
}

// read gives all rows of a lake that count, by file.
func read(t testing.TB, dir string) (rows [][]any) {
	t.Helper()
	files, err := parquetsink.Files(dir)
	require.NoError(t, err)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(f.Path)))
		require.NoError(t, err)
		assert.EqualValues(t, len(b), f.Bytes)
		got := typetest.Read(t, b)
		assert.Len(t, got, int(f.Rows))
		rows = append(rows, got...)
	}
	return rows
}

func ids(rows [][]any) []string {
	out := make([]string, len(rows))
	for i, r := range rows {
		out[i] = r[0].(string)
	}
	slices.Sort(out)
	return out
}

func allIDs(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprint(i)
	}
	slices.Sort(out)
	return out
}

// inFolder gives the .parquet files that a reader who globs finds.
func inFolder(t testing.TB, dir string) (paths []string) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if strings.HasSuffix(path, ".parquet") {
			paths = append(paths, path)
		}
		return err
	}))
	return paths
}

// TestInThePipeline: exactly once over rewinds, restarts and files that roll.
func TestInThePipeline(t *testing.T) {
	t.Parallel()
	const rows = 5000
	dir := t.TempDir()
	lake := filepath.Join(dir, "lake")
	build := func(n int) *leat.Pipeline {
		p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state"), CheckpointEvery: 5 * time.Millisecond,
			Retry: leat.Retry{First: time.Millisecond, Max: 20 * time.Millisecond}})
		flaky := leattest.Rows(ventas(n)...).Partitions(3)
		flaky.FailAt(500, leat.Transient(errors.New("network"))).FailAt(1200, leat.Transient(errors.New("network")))
		leat.To(leat.From(p, flaky),
			parquetsink.New(parquetsink.Config[venta]{Name: "a", Dir: lake, PartitionBy: byDayAndCity(), MaxOpen: 2, Roll: parquetsink.Roll{Rows: 300}}),
			parquetsink.New(parquetsink.Config[venta]{Dir: filepath.Join(dir, "flat"), EventTime: func(v venta) time.Time { return v.Dia }}))
		return p
	}
	for _, n := range []int{rows, rows, rows + 300} {
		runs(t, build(n))
		for _, l := range []string{lake, filepath.Join(dir, "flat")} {
			assert.Equal(t, allIDs(n), ids(read(t, l)), "%s: exactly once", l)
			files, err := parquetsink.Files(l)
			require.NoError(t, err)
			assert.Len(t, inFolder(t, l), len(files), "what counts is what is there")
		}
	}
	files, err := parquetsink.Files(filepath.Join(dir, "flat"))
	require.NoError(t, err)
	assert.Equal(t, time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC), files[0].MinTime.UTC())
	assert.Equal(t, "flat", files[0].Sink)
	assert.Equal(t, "ventas", files[0].Pipeline)
}

// TestRejects: rule B5 through the engine, with column and rule in the letter.
func TestRejects(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := ventas(1000)
	for i := range rows {
		if i%100 == 7 {
			rows[i].Precio = "1.234"
		}
	}
	p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state")})
	leat.To(leat.From(p, leattest.Rows(rows...)), parquetsink.New(parquetsink.Config[venta]{Dir: filepath.Join(dir, "lake"), PartitionBy: byDayAndCity()}))
	runs(t, p)
	assert.Len(t, read(t, filepath.Join(dir, "lake")), 990)
	letters, err := os.ReadFile(filepath.Join(dir, "state", "dead-letters.jsonl"))
	require.NoError(t, err)
	assert.Equal(t, 10, bytes.Count(letters, []byte("\n")))
	var letter struct{ Class, Error string }
	require.NoError(t, json.NewDecoder(bytes.NewReader(letters)).Decode(&letter))
	assert.Equal(t, "SinkReject", letter.Class)
	assert.Equal(t, `column precio: "1.234" has more than 2 digits behind the point (decimal=9.2)`, letter.Error)
}

// TestHiveFolders: DuckDB and pyarrow read the folders as columns.
func TestHiveFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lake := filepath.Join(dir, "lake")
	p := leat.New("ventas", leat.Config{StateDir: filepath.Join(dir, "state")})
	rows := ventas(300)
	leat.To(leat.From(p, leattest.Rows(rows...)), parquetsink.New(parquetsink.Config[venta]{Dir: lake, PartitionBy: byDayAndCity()}))
	runs(t, p)
	for _, path := range inFolder(t, lake) {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		assert.Equal(t, [][]string{{"id"}, {"dia"}, {"precio"}}, f.Schema().Columns(), "a column of PartitionBy stays out of the files")
	}
	for tool, table := range typetest.Python(t, lake, "id") {
		var names []string
		for _, c := range table.Columns {
			names = append(names, c[0])
		}
		at := func(name string) int { return slices.Index(names, name) }
		assert.ElementsMatch(t, []string{"id", "dia", "precio", "fecha", "ciudad"}, names, tool)
		require.Len(t, table.Rows, len(rows), tool)
		for i, r := range table.Rows {
			v := rows[i]
			require.Equal(t, fmt.Sprint(v.ID), r[at("id")], tool)
			require.Equal(t, typetest.Micros(v.Dia), r[at("dia")], tool)
			require.Equal(t, v.Precio, r[at("precio")], tool)
			require.Equal(t, v.Dia.Format(time.DateOnly), r[at("fecha")], tool)
			if v.Ciudad == "" {
				require.Nil(t, r[at("ciudad")], "%s: the empty value is null", tool)
			} else {
				require.Equal(t, v.Ciudad, r[at("ciudad")], "%s: escapes are undone", tool)
			}
		}
	}
}

// TestCompact keeps all rows, columns, nulls, lists and their order, of files of
// whatever columns, in bounded row groups.
func TestCompact(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	lake := filepath.Join(dir, "lake")
	rows := typetest.Rows(1500, 3)
	var want [][]any
	for i, part := range slices.Collect(slices.Chunk(rows, 150)) {
		// A pipeline of its own for each part: many small files.
		p := leat.New(fmt.Sprintf("p%d", i), leat.Config{StateDir: filepath.Join(dir, "state")})
		compression := []parquetsink.Compression{parquetsink.Snappy, parquetsink.Zstd, parquetsink.None}[i%3]
		leat.To(leat.From(p, leattest.Rows(part...)), parquetsink.New(parquetsink.Config[typetest.Row]{Dir: lake, RowGroupRows: 40, Compression: compression}))
		runs(t, p)
		for _, r := range part {
			want = append(want, r.Want())
		}
	}
	// Other columns, in the same folder.
	p := leat.New("otra", leat.Config{StateDir: filepath.Join(dir, "otra")})
	leat.To(leat.From(p, leattest.Rows(ventas(10)...)), parquetsink.New(parquetsink.Config[venta]{Dir: lake}))
	runs(t, p)
	before := inFolder(t, lake)
	require.Greater(t, len(before), 10)

	stats, err := parquetsink.Compact(t.Context(), lake, parquetsink.CompactConfig{RowGroupRows: 400})
	require.NoError(t, err)
	assert.Equal(t, 1, stats.Written)
	assert.EqualValues(t, 1500, stats.Rows)
	paths := inFolder(t, lake)
	require.Len(t, paths, 2, "the one of other columns is left alone")
	files, err := parquetsink.Files(lake)
	require.NoError(t, err)
	require.Len(t, files, 2)
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(lake, f.Path))
		require.NoError(t, err)
		got := typetest.Read(t, b)
		if f.Rows == 10 {
			assert.Len(t, got[0], 4)
			continue
		}
		assert.EqualValues(t, len(b), stats.Bytes)
		assert.Equal(t, want, got)
		pf, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		for i, g := range pf.RowGroups() {
			assert.EqualValues(t, []int{400, 400, 400, 300}[i], g.NumRows(), "F8: row groups are bounded")
		}
		path := filepath.Join(t.TempDir(), "a.parquet")
		require.NoError(t, os.WriteFile(path, b, 0o600))
		t.Run("DuckDB and pyarrow", func(t *testing.T) {
			for tool, table := range typetest.Python(t, path, "") {
				require.Equal(t, len(want), len(table.Rows))
				for i := range want {
					require.Equal(t, want[i], table.Rows[i], tool)
				}
			}
		})
	}

	again, err := parquetsink.Compact(t.Context(), lake, parquetsink.CompactConfig{})
	require.NoError(t, err)
	assert.Zero(t, again, "nothing left to do")
	// The sinks go on behind it.
	p = leat.New("p0", leat.Config{StateDir: filepath.Join(dir, "state")})
	leat.To(leat.From(p, leattest.Rows(rows[:150]...)), parquetsink.New(parquetsink.Config[typetest.Row]{Dir: lake}))
	runs(t, p)
	assert.Len(t, inFolder(t, lake), 2, "its rows are there: nothing comes twice")
}

func TestCompactFaults(t *testing.T) {
	t.Parallel()
	_, err := parquetsink.Compact(t.Context(), t.TempDir(), parquetsink.CompactConfig{Target: -1, RowGroupRows: -1})
	require.ErrorContains(t, err, "Target and Smaller")
	require.ErrorContains(t, err, "RowGroupRows is -1")
	_, err = parquetsink.Compact(t.Context(), t.TempDir(), parquetsink.CompactConfig{})
	require.ErrorIs(t, err, fs.ErrNotExist)
	_, err = parquetsink.Files(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
}

// TestMemoryOfManyFolders: rule F8, row groups don't become tiny because many
// files are open, nor does memory grow with them.
func TestMemoryOfManyFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	type fila struct {
		ID    int64
		Grupo string
		A, B  float64
		Texto string
	}
	r := rand.New(rand.NewPCG(1, 1))
	rows := make([]fila, 60_000)
	for i := range rows {
		rows[i] = fila{int64(i), fmt.Sprint(r.IntN(60)), r.Float64(), r.Float64(), fmt.Sprint(r.IntN(1e9))}
	}
	p := leat.New("muchos", leat.Config{StateDir: filepath.Join(dir, "state")})
	leat.To(leat.From(p, leattest.Rows(rows...).Batches(2000)), parquetsink.New(parquetsink.Config[fila]{Dir: filepath.Join(dir, "lake"),
		Roll: parquetsink.Roll{Age: time.Hour, Idle: -1}, PartitionBy: []parquetsink.Partition[fila]{{Name: "grupo", Value: func(f fila) string { return f.Grupo }}}}))
	runs(t, p)
	paths := inFolder(t, dir)
	assert.Len(t, paths, 60)
	for _, path := range paths {
		b, err := os.ReadFile(path)
		require.NoError(t, err)
		f, err := parquet.OpenFile(bytes.NewReader(b), int64(len(b)))
		require.NoError(t, err)
		assert.Len(t, f.RowGroups(), 1, path)
	}
}
