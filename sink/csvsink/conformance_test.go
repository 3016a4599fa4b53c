package csvsink_test

import (
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/csvsink"
)

type conRow struct {
	ID   int64
	Note word
}

// word is a text that may refuse to be written.
type word string

func (w word) MarshalText() ([]byte, error) {
	if w == "bad" {
		return nil, errors.New("a bad word")
	}
	return []byte(w), nil
}

// The contract of leat.Sink. Not parallel: failpoints are the process's.
func TestConformance(t *testing.T) {
	for name, config := range map[string]csvsink.Config[conRow]{
		"one folder":  {},
		"small files": {Roll: csvsink.Roll{Rows: 2}},
		"partitioned": {PartitionBy: []csvsink.Partition[conRow]{{Name: "day", Value: func(r conRow) string { return strconv.Itoa(int(r.ID) / 4 % 3) }}}},
	} {
		t.Run(name, func(t *testing.T) {
			leattest.TestSink(t, leattest.SinkHarness[conRow]{
				New: func(_ *testing.T, dir string) leat.Sink[conRow] {
					c := config
					c.Dir = filepath.Join(dir, "lake")
					return csvsink.New(c)
				},
				Row: func(n int) conRow { return conRow{int64(n), word(fmt.Sprintf("note, \"%d\"\n", n))} },
				Bad: func(n int) conRow { return conRow{int64(n), "bad"} },
				ReadBack: func(t *testing.T, dir string) (rows []conRow) {
					for _, text := range lakeFiles(t, filepath.Join(dir, "lake")) {
						records, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
						require.NoError(t, err)
						for _, r := range records[1:] {
							id, err := strconv.ParseInt(r[0], 10, 64)
							require.NoError(t, err)
							rows = append(rows, conRow{id, word(r[1])})
						}
					}
					return rows
				},
				Unordered: config.PartitionBy != nil,
				Ambiguous: func(_ *testing.T, _ string, _ leat.Sink[conRow], took bool) { loseCommit(took) },
			})
		})
	}
}

// lakeFiles are the files that the manifest names, in order of their commit.
func lakeFiles(t *testing.T, dir string) (texts [][]byte) {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	files, err := lake.Files(dir)
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Path))
		require.NoError(t, err)
		texts = append(texts, text)
	}
	return texts
}

// loseCommit makes the disk fail once, before or after the entry that is the commit.
func loseCommit(took bool) {
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
}
