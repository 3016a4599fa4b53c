package parquetsink_test

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/parquetgoengine"
	"github.com/leatgo/leat/sink/parquetsink/xitongsysengine"
)

type conRow struct {
	ID   int64  `parquet:"id"`
	Note string `parquet:"note"`
}

// The contract of leat.Sink, with each engine. Not parallel: failpoints are the process's.
func TestConformance(t *testing.T) {
	for name, config := range map[string]parquetsink.Config[conRow]{
		"leat's engine": {},
		"parquet-go":    {Engine: parquetgoengine.New()},
		"xitongsys":     {Engine: xitongsysengine.New()},
		"small files":   {Roll: parquetsink.Roll{Rows: 2}},
		"partitioned":   {PartitionBy: []parquetsink.Partition[conRow]{{Name: "day", Value: func(r conRow) string { return strconv.Itoa(int(r.ID) / 4 % 3) }}}},
	} {
		t.Run(name, func(t *testing.T) {
			leattest.TestSink(t, leattest.SinkHarness[conRow]{
				New: func(_ *testing.T, dir string) leat.Sink[conRow] {
					c := config
					c.Dir = filepath.Join(dir, "lake")
					return parquetsink.New(c)
				},
				Row: func(n int) conRow { return conRow{int64(n), fmt.Sprint("note ", n)} },
				Bad: func(n int) conRow { return conRow{int64(n), "\xff is no UTF-8"} },
				ReadBack: func(t *testing.T, dir string) (rows []conRow) {
					files, err := parquetsink.Files(filepath.Join(dir, "lake"))
					if errors.Is(err, fs.ErrNotExist) {
						return nil
					}
					require.NoError(t, err)
					for _, f := range files {
						some, err := parquet.ReadFile[conRow](filepath.Join(dir, "lake", f.Path))
						require.NoError(t, err)
						rows = append(rows, some...)
					}
					return rows
				},
				Unordered: config.PartitionBy != nil,
				Ambiguous: func(_ *testing.T, _ string, _ leat.Sink[conRow], took bool) {
					at := "lake/before-entry"
					if took {
						at = "lake/after-entry"
					}
					failpoint.Set(func(name string) error {
						if name != at {
							return nil
						}
						failpoint.Set(nil)
						return errors.New("the disk did not answer")
					})
				},
			})
		})
	}
}
