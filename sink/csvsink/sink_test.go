package csvsink_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/csvsink"
	"github.com/leatgo/leat/source/csvsource"
)

// leida is a venta as it is in the files; the city is a folder.
type leida struct {
	ID     int64
	Precio float64
	Dec    decimal.Decimal
	Hora   time.Time
	Nota   *string
	Bytes  []byte
	Dura   time.Duration
	Si     bool
}

type venta struct {
	Ciudad string
	leida
}

func ventas(n int) []venta {
	rows := make([]venta, n)
	for i := range rows {
		nota := fmt.Sprintf("\"%d\"\n; ,<ñ>", i)
		rows[i] = venta{[]string{"Lima", "Ñuñoa", ""}[i%3], leida{ID: int64(i), Precio: float64(i) / 3,
			Dec: decimal.New(int64(i), -2), Hora: time.Date(2025, 1, 1, 0, 0, i, i, time.UTC), Bytes: []byte{'x', byte(i)}, Dura: time.Duration(i), Si: i%2 == 0}}
		if i%5 > 0 {
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

// read gives the records of all files that count, by encoding/csv, without the
// header lines.
func read(t *testing.T, dir string, delim rune) (all [][]string) {
	t.Helper()
	files, err := lake.Files(dir)
	require.NoError(t, err)
	for _, info := range files {
		f, err := os.Open(filepath.Join(dir, filepath.FromSlash(info.Path)))
		require.NoError(t, err)
		defer f.Close()
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
		c := csv.NewReader(r)
		c.Comma = delim
		records, err := c.ReadAll()
		require.NoError(t, err)
		require.Len(t, records, int(info.Rows)+1)
		require.Equal(t, info.Schema, strings.Join(records[0], string(delim)))
		all = append(all, records[1:]...)
	}
	return all
}

// What is written is what encoding/csv and csvsource read, in all compressions;
// through the real engine, over rewinds and restarts, each row once (rules E1, E8).
func TestInThePipeline(t *testing.T) {
	t.Parallel()
	const rows = 3000
	for _, tc := range []csvsink.Config[venta]{
		{},
		{Compression: csvsink.Gzip, Delimiter: ';'},
		{Compression: csvsink.Zstd, CRLF: true, Delimiter: '\t'},
	} {
		t.Run(tc.Compression.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			tc.Dir = filepath.Join(dir, "out")
			tc.Roll.Rows = 400
			tc.PartitionBy = []csvsink.Partition[venta]{{Name: "ciudad", Value: func(v venta) string { return v.Ciudad }}}
			config := leat.Config{StateDir: filepath.Join(dir, "state"), CheckpointEvery: 5 * time.Millisecond,
				Retry: leat.Retry{First: time.Millisecond, Max: 20 * time.Millisecond}}
			all := ventas(rows + 300)
			for _, n := range []int{rows, rows, rows + 300} {
				p := leat.New("ventas", config)
				src := leattest.Rows(all[:n]...).Partitions(3)
				src.FailAt(300, leat.Transient(errors.New("network"))).FailAt(800, leat.Transient(errors.New("network")))
				leat.To(leat.From(p, src), csvsink.New(tc))
				runs(t, p)
			}
			delim := tc.Delimiter
			if delim == 0 {
				delim = ','
			}
			ids := map[string]bool{}
			for _, record := range read(t, tc.Dir, delim) {
				ids[record[0]] = true
				require.Len(t, record, 8, "ciudad is a folder")
			}
			require.Len(t, ids, len(all))
			assert.DirExists(t, filepath.Join(tc.Dir, "ciudad=__HIVE_DEFAULT_PARTITION__"))

			config.StateDir = filepath.Join(dir, "state2")
			p := leat.New("vuelta", config)
			got := leattest.Collect[leida]()
			leat.To(leat.From(p, csvsource.New(csvsource.Config[leida]{Dir: tc.Dir, Recursive: true, Delimiter: delim})), got)
			runs(t, p)
			back := got.Committed()
			require.Len(t, back, len(all))
			for _, r := range back {
				want := all[r.ID].leida
				require.True(t, want.Dec.Equal(r.Dec))
				want.Dec = r.Dec
				require.Equal(t, want, r)
			}
		})
	}
	t.Run("B5, A9: rows without a form in CSV are rejected alone", func(t *testing.T) {
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
		leat.To(leat.From(p, leattest.Rows(in...)), csvsink.New(csvsink.Config[fila]{Dir: filepath.Join(dir, "out")}))
		runs(t, p)
		assert.Len(t, read(t, filepath.Join(dir, "out"), ','), 996)
		letters, err := os.ReadFile(filepath.Join(dir, "state", "dead-letters.jsonl"))
		require.NoError(t, err)
		assert.Equal(t, 4, bytes.Count(letters, []byte("\n")))
		assert.Contains(t, string(letters), "no voice")
		assert.Contains(t, string(letters), "aaah")
	})
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
	level := func(names ...string) (levels []csvsink.Partition[fila]) {
		for _, name := range names {
			levels = append(levels, csvsink.Partition[fila]{Name: name, Value: func(f fila) string { return f.Pais }})
		}
		return levels
	}
	assert.NoError(t, csvsink.New(csvsink.Config[fila]{Dir: "x", PartitionBy: level("pais")}).Validate(), "the column stays out of the files")
	assert.ErrorContains(t, csvsink.New(csvsink.Config[fila]{Dir: "x", PartitionBy: level("Pais")}).Validate(), "csvsink: the column pais and the level Pais of PartitionBy")
	assert.ErrorContains(t, csvsink.New(csvsink.Config[fila]{Dir: "x", PartitionBy: level("a", "A")}).Validate(), `csvsink: PartitionBy[1]: the name "A" is there twice`)
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type one struct{ A string }
	value := func(one) string { return "" }
	s := csvsink.New(csvsink.Config[one]{Compression: 7, MaxOpen: -1, PartitionBy: []csvsink.Partition[one]{{Name: "a", Value: value}, {Name: "x/y", Value: value}}})
	err := s.Validate()
	for _, want := range []string{"csvsink: Dir is empty", "csvsink: Compression 7", "csvsink: MaxOpen is -1", `csvsink: PartitionBy[1]: the name "x/y" holds '/'`, "takes all columns"} {
		assert.ErrorContains(t, err, want)
	}
	for _, d := range []rune{'"', '\r', '\n', 'ñ', 'a', '5', '-', '.', -1} {
		assert.ErrorContains(t, csvsink.New(csvsink.Config[one]{Dir: "x", Delimiter: d}).Validate(), "csvsink: the Delimiter")
	}
	type list struct {
		A string
		L []int `leat:"lista"`
	}
	assert.ErrorContains(t, csvsink.New(csvsink.Config[list]{Dir: "x"}).Validate(), "csvsink: column lista: a []int has no form in CSV")
	require.ErrorContains(t, s.Open(t.Context(), leat.Env{}), "Dir is empty")
	assert.ErrorContains(t, csvsink.New(csvsink.Config[int]{Dir: "x"}).Validate(), "csvsink: row type int is not a struct")
	assert.ErrorContains(t, csvsink.New(csvsink.Config[struct{}]{Dir: "x"}).Validate(), "has no columns")
	assert.NoError(t, csvsink.New(csvsink.Config[one]{Dir: "x", Roll: csvsink.Roll{Bytes: -1, Rows: -1, Age: -1, Idle: -1}}).Validate())
	assert.Equal(t, "ventas", csvsink.New(csvsink.Config[one]{Dir: "a/ventas/"}).Name())
	assert.Equal(t, "n", csvsink.New(csvsink.Config[one]{Name: "n", Dir: "a"}).Name())
	assert.Empty(t, csvsink.New(csvsink.Config[one]{}).Name())
	assert.Equal(t, leat.ExactlyOnce, s.Guarantee())
	assert.Equal(t, "compression(9)", csvsink.Compression(9).String())
}
