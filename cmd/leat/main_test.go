package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/csvsource"
	"github.com/leatgo/leat/stage"
)

type sale struct{ ID, Qty int64 }

// world is the state folder of a pipeline that has run, and its database.
func world(t *testing.T) (state, db string) {
	t.Helper()
	dir := t.TempDir()
	in := filepath.Join(dir, "in")
	require.NoError(t, os.Mkdir(in, 0o755))
	require.NoError(t, os.WriteFile(filepath.Join(in, "a.csv"), []byte("id,qty\n1,5\n2,-1\n\x1b[31m,1\n"), 0o644))
	state, db = filepath.Join(dir, "state"), filepath.Join(dir, "s.db")
	p := leat.New("sales", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	good := leat.Via(leat.From(p, csvsource.New(csvsource.Config[sale]{Dir: in, Name: "files"})), "check", stage.Map(func(s sale) (sale, error) {
		if s.Qty < 0 {
			return s, &leat.FieldError{Column: "qty", Rule: "gte", Msg: "qty is negative"}
		}
		return s, nil
	}))
	leat.To(good, sqlitesink.New(sqlitesink.Config[sale]{Path: db, Table: "sales"}))
	require.NoError(t, p.Run(t.Context()))
	return state, db
}

func leatCommand(args ...string) (code int, out, errs string) {
	var o, e bytes.Buffer
	code = run(context.Background(), args, &o, &e)
	return code, o.String(), e.String()
}

// ok runs a command that must succeed, and is silent on stderr.
func ok(t *testing.T, args ...string) string {
	t.Helper()
	code, out, errs := leatCommand(args...)
	require.Zero(t, code, errs)
	require.Empty(t, errs)
	require.NotContains(t, out, "\x1b", "what came from outside does not steer the terminal")
	return out
}

func object(t *testing.T, args ...string) map[string]any {
	t.Helper()
	var v map[string]any
	out := ok(t, append(args, "-json")...)
	require.NoError(t, json.Unmarshal([]byte(out), &v), out)
	require.Equal(t, 1, strings.Count(out, "\n"))
	return v
}

func TestLooking(t *testing.T) {
	t.Parallel()
	state, db := world(t)

	out := ok(t, "ledger", state)
	require.Contains(t, out, "source files: 1 files\nFILE ")
	require.Regexp(t, `(?m)^a\.csv +ok +3 +1 `, out)
	require.Equal(t, out, ok(t, "ledger", "-source", "files", state))
	l := object(t, "ledger", state)
	require.Equal(t, "ok", l["ledgers"].([]any)[0].(map[string]any)["files"].([]any)[0].(map[string]any)["status"])

	out = ok(t, "positions", state, "-sqlite", db)
	require.Regexp(t, `(?m)^files +\d+ +state folder `, out)
	require.Regexp(t, `(?m)^files +\d+ +sqlite .*, sales/sales `, out)
	require.Regexp(t, `(?m)^check +2 +1 +1 +0 +0$`, out)
	p := object(t, "positions", "-sqlite", db, state)
	require.Len(t, p["positions"], 2)
	require.Equal(t, false, p["running"])

	out = ok(t, "letters", state)
	require.Contains(t, out, "2 letters, 0 of them refused again after a replay\n")
	require.Regexp(t, `(?m)^1 +Transform/qty/gte$`, out)
	require.Regexp(t, `(?m)^[0-9a-f]{12} .* check +Transform +a.csv:3 +1 +qty is negative$`, out)
	require.Equal(t, out, ok(t, "letters", operate.LettersFile(state)), "the file itself will do")
	require.Contains(t, ok(t, "letters", t.TempDir()), "either nothing was rejected, or the pipeline keeps its dead letters elsewhere")
	require.NotRegexp(t, `(?m)^[0-9a-f]{12} `, ok(t, "letters", state, "-n", "0"))
	require.Contains(t, ok(t, "letters", state, "-class", "Late"), "0 letters")
	v := object(t, "letters", state, "-node", "files")
	require.EqualValues(t, 1, v["letters"])
	id := v["newest"].([]any)[0].(map[string]any)["id"].(string)

	out = ok(t, "letter", state, id[:10])
	require.Contains(t, out, `raw        "\x1b[31m,1"`)
	require.Contains(t, out, "origin     a.csv:4")
	require.Equal(t, id, object(t, "letter", state, id)["id"])
}

func TestReplayExports(t *testing.T) {
	t.Parallel()
	state, _ := world(t)
	file := filepath.Join(t.TempDir(), "chosen.jsonl")
	out := ok(t, "replay", state, "-node", "check", "-o", file)
	require.Contains(t, out, fmt.Sprintf("1 letters written to %s; nothing was replayed yet.", file))
	for l, err := range leat.DeadLetters(file) {
		require.NoError(t, err)
		require.Equal(t, "2,-1", strings.TrimSpace(string(l.Raw)))
	}
	code, _, errs := leatCommand("replay", state, "-o", file)
	require.Equal(t, 1, code)
	require.Contains(t, errs, "is there already")
	require.EqualValues(t, 2, object(t, "replay", state, "-o", file+"2")["letters"])
}

func TestResetAsksFirst(t *testing.T) {
	t.Parallel()
	state, db := world(t)
	at := func() string {
		return regexp.MustCompile(`(?m)^files +(\S+) +state folder`).FindString(ok(t, "positions", state))
	}
	before := at()
	out := ok(t, "reset", state, "-partition", "files", "-to", "0", "-sqlite", db)
	require.Contains(t, out, "sqlite "+db+", pipeline sales, sink sales: ")
	require.Contains(t, out, "any other holds them twice")
	require.Contains(t, out, "nothing was changed: add -yes to do it")
	require.Equal(t, before, at())
	require.Equal(t, false, object(t, "reset", state, "-partition", "files", "-to", "forget")["done"])
	require.Equal(t, before, at())

	require.Contains(t, ok(t, "reset", state, "-partition", "files", "-to", "0", "-sqlite", db, "-yes"), "\ndone\n")
	require.Regexp(t, `^files +0 `, at())
	v := object(t, "reset", state, "-partition", "files", "-to", "forget", "-yes")
	require.Equal(t, true, v["done"])
	require.Len(t, v["changes"], 1)
	require.Nil(t, v["changes"].([]any)[0].(map[string]any)["to"])
	require.Empty(t, at())

	require.Contains(t, ok(t, "reprocess", state, "files", "a.csv"), "reads a.csv again")
}

// A folder in use is looked at, and not changed.
func TestInUse(t *testing.T) {
	t.Parallel()
	state, _ := world(t)
	ctx, cancel := context.WithCancel(t.Context())
	p := leat.New("sales", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	sink := leattest.Collect[int]()
	opened := make(chan struct{})
	sink.OnCall(func(call string) error {
		if call == "Open" {
			close(opened)
		}
		return nil
	})
	leat.To(leat.From(p, leattest.Rows(1).Endless()), sink)
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	<-opened
	require.Contains(t, ok(t, "positions", state), "a pipeline is running on it: this is a moment old\n")
	require.Contains(t, ok(t, "letters", state), "2 letters")
	for _, args := range [][]string{
		{"reset", state, "-partition", "files", "-to", "forget"},
		{"reset", state, "-partition", "files", "-to", "forget", "-yes"},
		{"reprocess", state, "files", "a.csv"},
	} {
		code, out, errs := leatCommand(args...)
		require.Equal(t, 1, code)
		require.Empty(t, out)
		require.Contains(t, errs, "is in use: stop the pipeline first")
	}
	cancel()
	require.NoError(t, <-done)
}

func TestExitCodes(t *testing.T) {
	t.Parallel()
	state, _ := world(t)
	none := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		args []string
		code int
		errs string
	}{
		{nil, 2, "no command is given"},
		{[]string{"lettres"}, 2, `there is no command "lettres"`},
		{[]string{"ledger"}, 2, "ledger takes 1 arguments, not 0"},
		{[]string{"ledger", state, "-x"}, 2, "flag provided but not defined"},
		{[]string{"letters", state, "-n", "-1"}, 2, "-n can't be negative"},
		{[]string{"letters", state, "-class", "contract"}, 2, "the classes are [Decode Contract"},
		{[]string{"reset", state, "-partition", "files", "-to", "99999999"}, 1, "its ledger ends at"},
		{[]string{"reset", state, "-to", "0"}, 2, "reset needs -partition"},
		{[]string{"reset", state, "-partition", "files"}, 2, "reset needs -to OFFSET"},
		{[]string{"reset", state, "-partition", "files", "-to", "-3"}, 2, "reset needs -to OFFSET"},
		{[]string{"replay", state}, 2, "leat.Replay"},
		{[]string{"help"}, 0, ""},
		{[]string{"ledger", "-h"}, 0, "usage: leat ledger STATEDIR [flags]"},
		{[]string{"positions", none}, 1, none + " is no state folder"},
		{[]string{"ledger", none}, 1, "no such file"},
		{[]string{"ledger", state, "-source", "x"}, 1, `no ledger of a source "x"`},
		{[]string{"letters", none}, 1, "no such file"},
		{[]string{"letter", state, "zz"}, 1, operate.ErrNoLetter.Error()},
		{[]string{"positions", state, "-sqlite", none}, 1, "no such file"},
		{[]string{"positions", state, "-lake", state}, 1, "holds no lake"},
		{[]string{"reset", state, "-partition", "x", "-to", "0"}, 1, `nothing holds partition "x"`},
	} {
		code, _, errs := leatCommand(test.args...)
		require.Equal(t, test.code, code, "%q: %s", test.args, errs)
		require.Contains(t, errs, test.errs)
	}
}

// A change of the columns between two files is told.
func TestLedgerTellsOfDrift(t *testing.T) {
	t.Parallel()
	in, state := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(in, "a.csv"), []byte("id,qty\n1,5\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(in, "b.csv"), []byte("qty,id,note\n5,2,x\n"), 0o644))
	p := leat.New("sales", leat.Config{StateDir: state, Logger: slog.New(slog.DiscardHandler)})
	leat.To(leat.From(p, csvsource.New(csvsource.Config[sale]{Dir: in, Name: "files"})), leattest.Collect[sale]())
	require.NoError(t, p.Run(t.Context()))
	require.Regexp(t, `(?m)^b\.csv +ok .*\+"note"`, ok(t, "ledger", state))
	l := object(t, "ledger", state)["ledgers"].([]any)[0].(map[string]any)["files"].([]any)
	require.NotContains(t, l[0], "drift")
	require.Equal(t, `+"note"`, l[1].(map[string]any)["drift"])
}
