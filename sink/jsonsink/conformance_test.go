package jsonsink_test

import (
	"bytes"
	"encoding/json"
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
	"github.com/leatgo/leat/sink/jsonsink"
)

type conRow struct {
	ID   int64  `json:"id"`
	Note string `json:"note"`
	Word word   `json:"word"`
}

// word may refuse to be written.
type word int

func (w word) MarshalText() ([]byte, error) {
	if w < 0 {
		return nil, errors.New("a bad word")
	}
	return strconv.AppendInt(nil, int64(w), 10), nil
}

func (w *word) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	*w = word(n)
	return err
}

// The contract of leat.Sink. Not parallel: failpoints are the process's.
func TestConformance(t *testing.T) {
	for name, config := range map[string]jsonsink.Config[conRow]{
		"one folder":  {},
		"small files": {Roll: jsonsink.Roll{Rows: 2}},
		"partitioned": {PartitionBy: []jsonsink.Partition[conRow]{{Name: "day", Value: func(r conRow) string { return strconv.Itoa(int(r.ID) / 4 % 3) }}}},
	} {
		t.Run(name, func(t *testing.T) {
			leattest.TestSink(t, leattest.SinkHarness[conRow]{
				New: func(_ *testing.T, dir string) leat.Sink[conRow] {
					c := config
					c.Dir = filepath.Join(dir, "lake")
					return jsonsink.New(c)
				},
				Row: func(n int) conRow { return conRow{int64(n), fmt.Sprintf("note \"%d\"\n\u2028", n), word(n)} },
				Bad: func(n int) conRow { return conRow{int64(n), "", -1} },
				ReadBack: func(t *testing.T, dir string) (rows []conRow) {
					for _, text := range lakeFiles(t, filepath.Join(dir, "lake")) {
						for line := range bytes.Lines(text) {
							var r conRow
							require.NoError(t, json.Unmarshal(line, &r))
							rows = append(rows, r)
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
