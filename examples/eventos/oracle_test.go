package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/sink/parquetsink"
)

// want is what messages must come to, by rules of its own: encoding/json and a handful of ifs.
type want struct {
	in         int
	rows       map[string]string // by event_id
	duplicates int
	bad        map[string]int // by value
	why        map[string]int // by class/column/rule
}

func wanted(values ...[]byte) want {
	w := want{rows: map[string]string{}, bad: map[string]int{}, why: map[string]int{}}
	for _, v := range values {
		w.in++
		row, why := judge(v)
		id, _, _ := strings.Cut(row, "|")
		_, seen := w.rows[id]
		switch {
		case why != "":
			w.bad[string(v)]++
			w.why[why]++
		case seen: // the first one wins
			w.duplicates++
		default:
			w.rows[id] = row
		}
	}
	return w
}

// generated are the first n events that the program makes.
func generated(n int) [][]byte {
	out := make([][]byte, n)
	for i := range out {
		_, out[i] = event(i)
	}
	return out
}

// judge gives a row as it must be in the lake, or why the message is none.
func judge(value []byte) (row, why string) {
	var f map[string]any
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	if dec.Decode(&f) != nil || dec.More() {
		return "", "Decode/-/syntax"
	}
	id, isText := f["event_id"].(string)
	if !isText {
		return "", verdict(f, "event_id")
	}
	text, isText := f["ts"].(string)
	if !isText {
		return "", verdict(f, "ts")
	}
	var ts time.Time
	var err error
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02 15:04:05", time.DateOnly} { // without a zone it is UTC
		if ts, err = time.Parse(layout, text); err == nil {
			break
		}
		if strings.Contains(err.Error(), "out of range") {
			return "", "Decode/ts/range"
		}
	}
	if err != nil {
		return "", "Decode/ts/syntax"
	}
	number, isNumber := f["usuario_id"].(json.Number)
	if !isNumber {
		return "", verdict(f, "usuario_id")
	}
	user, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return "", "Decode/usuario_id/type"
	}
	accion, isText := f["accion"].(string)
	if !isText {
		return "", verdict(f, "accion")
	}
	monto := 0.0
	if f["monto"] != nil {
		if number, isNumber = f["monto"].(json.Number); !isNumber {
			return "", "Decode/monto/type"
		}
		if monto, err = number.Float64(); err != nil {
			return "", "Decode/monto/range"
		}
	}
	switch { // what is wrong with its form is told first
	case id == "":
		return "", "Contract/event_id/required"
	case accion == "":
		return "", "Contract/accion/required"
	case accion != "click" && accion != "view" && accion != "purchase":
		return "", "Contract/accion/oneof"
	case monto < 0:
		return "", "Contract/monto/gte"
	}
	for _, known := range []string{"event_id", "ts", "usuario_id", "accion", "monto"} {
		delete(f, known)
	}
	return line(id, ts, user, accion, monto, f), ""
}

// verdict is why a field is refused that has not its type.
func verdict(f map[string]any, name string) string {
	v, there := f[name]
	switch {
	case !there, v == nil && name == "usuario_id": // which has room for null
		return "Contract/" + name + "/required"
	case v == nil:
		return "Decode/" + name + "/null"
	}
	return "Decode/" + name + "/type"
}

func line(id string, ts time.Time, user int64, accion string, monto float64, others map[string]any) string {
	text := "" // sorted by key, numbers as they were written
	if len(others) > 0 {
		b, err := json.Marshal(others)
		if err != nil {
			panic(err)
		}
		text = string(b)
	}
	return fmt.Sprintf("%s|%s|%d|%s|%v|%s", id, ts.UTC().Format("2006-01-02T15:04:05.000000"), user, accion, monto, text)
}

// lakeRow is a row as another program reads it.
type lakeRow struct {
	EventID      string    `parquet:"event_id"`
	TS           time.Time `parquet:"ts,timestamp(microsecond)"`
	UsuarioID    int64     `parquet:"usuario_id"`
	Accion       string    `parquet:"accion"`
	Monto        float64   `parquet:"monto"`
	ProcessingTS time.Time `parquet:"processing_ts,timestamp(microsecond)"`
	Otros        *string   `parquet:"otros,optional"`
}

// lakeRows reads all files that a reader finds, with another library's means. They must be the ones
// that the manifest names, and each row must lie in the folder of its day.
func lakeRows(t *testing.T, out string) (rows []string) {
	t.Helper()
	var found, named []string
	require.NoError(t, filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".parquet") && !strings.HasPrefix(d.Name(), ".") {
			found = append(found, path)
		}
		return err
	}))
	files, err := parquetsink.Files(out)
	if len(found) > 0 || err == nil {
		require.NoError(t, err)
	}
	for _, f := range files {
		named = append(named, filepath.Join(out, filepath.FromSlash(f.Path)))
	}
	require.ElementsMatch(t, named, found, "F1: files of the manifest and files in the folder")
	now := time.Now()
	for _, path := range found {
		part, err := parquet.ReadFile[lakeRow](path)
		require.NoError(t, err, path)
		for _, r := range part {
			others := map[string]any{}
			if r.Otros != nil {
				dec := json.NewDecoder(strings.NewReader(*r.Otros))
				dec.UseNumber()
				require.NoError(t, dec.Decode(&others))
			}
			rows = append(rows, line(r.EventID, r.TS, r.UsuarioID, r.Accion, r.Monto, others))
			assert.Equal(t, "date="+r.TS.UTC().Format(time.DateOnly), filepath.Base(filepath.Dir(path)))
			assert.WithinRange(t, r.ProcessingTS, now.Add(-time.Hour), now.Add(time.Second))
		}
	}
	return rows
}

// check compares what the program has left in out with what it must be.
func (w want) check(t *testing.T, out string) {
	t.Helper()
	requireSame(t, "rows in the lake", slices.Collect(maps.Values(w.rows)), lakeRows(t, out))
	var bad, letters []string
	for v, n := range w.bad {
		bad = append(bad, slices.Repeat([]string{v}, n)...)
	}
	require.NoError(t, leat.ReadDeadLetters(filepath.Join(out, "_state", "dead-letters.jsonl"), func(l leat.DeadLetter) error {
		letters = append(letters, string(l.Raw))
		assert.NotEmpty(t, l.Topic)
		_, why := judge(l.Raw)
		assert.Equal(t, why, reason(l))
		return nil
	}))
	requireSame(t, "dead letters", bad, letters)
}

// told is what the last line of the program must be, when it has read all of it in one run.
func (w want) told(s summary) summary {
	by := map[string]int64{}
	for why, n := range w.why {
		by[why] = int64(n)
	}
	rejected := 0
	for _, n := range w.why {
		rejected += n
	}
	return summary{
		In: int64(w.in), Out: int64(len(w.rows)), Duplicates: int64(w.duplicates), Rejected: int64(rejected), RejectedBy: by,
		Files: s.Files, Seconds: s.Seconds, RowsPerS: s.RowsPerS,
	}
}

func reason(l leat.DeadLetter) string {
	column := l.Column
	if column == "" {
		column = "-"
	}
	return fmt.Sprintf("%s/%s/%s", l.Class, column, l.Rule)
}

// requireSame is require.ElementsMatch that names the difference only.
func requireSame(t *testing.T, what string, want, got []string) {
	t.Helper()
	times := map[string]int{}
	for _, s := range want {
		times[s]--
	}
	for _, s := range got {
		times[s]++
	}
	missing, extra := 0, 0
	var examples []string
	for s, n := range times {
		if n < 0 {
			missing -= n
		} else {
			extra += n
		}
		if n != 0 && len(examples) < 5 {
			examples = append(examples, fmt.Sprintf("%+d %s", n, s))
		}
	}
	if missing+extra > 0 {
		require.Failf(t, what, "%d missing, %d too many: %s", missing, extra, strings.Join(examples, "; "))
	}
}
