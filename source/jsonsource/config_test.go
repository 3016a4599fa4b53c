package jsonsource

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/source/drift"
)

var (
	_ leat.Source[rec] = (*Source[rec])(nil)
	_ leat.Named       = (*Source[rec])(nil)
	_ leat.Validator   = (*Source[rec])(nil)
	_ leat.Replayer    = (*Source[rec])(nil)

	_ leat.FileRejecter       = (*Source[rec])(nil)
	_ leat.LetterDecoder[rec] = (*Source[rec])(nil)
)

// writeOnly has a text form that can't be read again.
type writeOnly int

func (writeOnly) MarshalText() ([]byte, error) { return []byte("x"), nil }

func TestValidate(t *testing.T) {
	t.Parallel()
	type Bad struct {
		A chan int
		B writeOnly
		C error
		D func()
	}
	err := New(Config[Bad]{
		Dir: "in", Files: []string{"a"}, Extra: 9, Missing: 9, RepeatedKeys: 9, MaxDepth: 10_001, MaxRecord: -1, ChunkBytes: -1, After: 7,
	}).Validate()
	require.Error(t, err)
	for _, want := range []string{
		"both Dir and Files", "Extra 9", "Missing 9", "RepeatedKeys 9", "MaxDepth 10001", "MaxRecord -1", "ChunkBytes -1", "After 7",
		"column a: a chan int can't be read from JSON", "column b: a jsonsource.writeOnly can't be read from JSON", "column c: a error", "column d: a func()",
	} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, New(Config[rec]{Dir: "in", MaxDepth: -1}).Validate(), "MaxDepth -1")
	require.ErrorContains(t, New(Config[struct{}]{Dir: "in"}).Validate(), "no columns")
	require.ErrorContains(t, New(Config[int]{Dir: "in"}).Validate(), "not a struct")

	type Good struct {
		A []int
		B map[string]any
		C any
		D struct{ X chan int } // encoding/json says what it does not like when it meets it
		E map[string]string    `leat:"e,extra"`
	}
	require.NoError(t, New(Config[Good]{
		Dir: "in", Extra: drift.RefuseExtra, Missing: drift.ZeroMissing, RepeatedKeys: drift.FirstRepeated, MaxDepth: 10_000, MaxRecord: 1, ChunkBytes: 1,
	}).Validate())
}

func TestName(t *testing.T) {
	t.Parallel()
	require.Equal(t, "incoming", New(Config[rec]{Dir: "/a/incoming/"}).Name())
	require.Equal(t, "json", New(Config[rec]{Files: []string{"a.jsonl"}}).Name())
	require.Equal(t, leat.ReplayExact, New(Config[rec]{}).Replay())
}
