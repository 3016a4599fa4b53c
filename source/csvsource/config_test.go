package csvsource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/source/files"
)

var (
	_ leat.Source[rec] = (*Source[rec])(nil)
	_ leat.Named       = (*Source[rec])(nil)
	_ leat.Validator   = (*Source[rec])(nil)
	_ leat.Replayer    = (*Source[rec])(nil)

	_ leat.FileRejecter       = (*Source[rec])(nil)
	_ leat.LetterDecoder[rec] = (*Source[rec])(nil)
)

func TestValidateJoinsAllFaults(t *testing.T) {
	t.Parallel()
	type Bad struct {
		A chan int
		B string `leat:"x"`
		C string `leat:"x"`
	}
	err := New(Config[Bad]{
		Dir: "in", Files: []string{"a", "", "./a"}, Glob: "[", Delimiter: '\n', Quote: 'ä', Comment: '#',
		MaxRecord: -1, ChunkBytes: -1, After: 7, Duplicates: 9,
		Watch: -1, Settle: -2, MaxScans: -1, Attempts: -2, Recursive: true,
	}).Validate()
	require.Error(t, err)
	for _, want := range []string{
		"both Dir and Files", `Glob "["`, "Files[1] is empty", `Files lists "a" twice`, "Delimiter", "Quote",
		"MaxRecord", "ChunkBytes", "After 7", "Duplicates 9", "column x",
		"Watch -1ns is negative", "Settle -2", "MaxScans -1", "Attempts -2", "Recursive changes the default of Glob",
	} {
		require.ErrorContains(t, err, want)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	type Unreadable struct{ A []int }
	require.ErrorContains(t, New(Config[Unreadable]{Dir: "in"}).Validate(), "column a: a []int can't be read from text")
	require.ErrorContains(t, New(Config[struct{}]{Dir: "in"}).Validate(), "no columns")
	require.ErrorContains(t, New(Config[int]{Dir: "in"}).Validate(), "not a struct")
	for want, c := range map[string]Config[rec]{
		"neither Dir nor Files":                  {},
		"has another meaning already":            {Dir: "in", Delimiter: ';', Comment: ';'},
		"no effect on Files":                     {Files: []string{"a"}, Glob: "*"},
		"set ProcessedDir and FailedDir":         {Files: []string{"a"}, After: files.Move},
		"ProcessedDir is Dir itself":             {Dir: "in", After: files.Move, ProcessedDir: "./in/"},
		"a glob can't leave Dir":                 {Dir: "in", Glob: "../*"},
		"a glob is relative to Dir":              {Dir: "in", Glob: "/tmp/*"},
		"it must be one ASCII character":         {Dir: "in", Comment: -1},
		"Watch needs Dir":                        {Files: []string{"a"}, Watch: 1},
		"MaxScans has an effect with Watch only": {Dir: "in", MaxScans: 1},
		"PollOnly has an effect with Watch only": {Dir: "in", PollOnly: true},
	} {
		require.ErrorContains(t, New(c).Validate(), want)
	}
	for _, c := range []Config[rec]{
		{Dir: "in"}, {Files: []string{"a", "b"}}, {Dir: "in", Quote: -1, Comment: '"'}, {Dir: "in", Glob: "**/*.txt"},
		{Dir: "in", Watch: 1, MaxScans: 3, Settle: -1, Attempts: -1, PollOnly: true, Recursive: true}, {Dir: "in", Settle: time.Minute},
		{Dir: "in", After: files.Move}, {Files: []string{"a"}, After: files.Move, ProcessedDir: "p", FailedDir: "f"},
	} {
		require.NoError(t, New(c).Validate())
	}
}

func TestName(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config[rec]{
		"x":        {Name: "x", Dir: "/a/b"},
		"incoming": {Dir: "/a/incoming/"},
		"csv":      {Dir: "."},
	} {
		require.Equal(t, want, New(c).Name())
	}
	require.Equal(t, "csv", New(Config[rec]{Files: []string{"a.csv"}}).Name())
	require.Equal(t, "csv", New(Config[rec]{Dir: "/"}).Name())
	require.Equal(t, leat.ReplayExact, New(Config[rec]{}).Replay())
}
