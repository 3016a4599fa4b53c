package leat_test

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// Rule B4: headers are bytes, and an empty key or value is not none.
func TestDeadLetterKeepsBytes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "letters.jsonl")
	log := leat.DeadLetterFile(path)
	require.NoError(t, log.Open(t.Context(), leat.Env{}))
	letters := []leat.DeadLetter{
		{ID: "a", Headers: map[string]string{"bytes": "\xff\x00", "text": "ñ"}, Key: []byte{}, Raw: []byte{}},
		{ID: "b", Headers: map[string]string{"bytes": "\xff"}},
		{ID: "c", Headers: map[string]string{"text": ""}, Key: []byte{255}, Raw: []byte("\xff")},
	}
	require.NoError(t, log.Append(t.Context(), letters))
	require.NoError(t, log.Close())
	var got []leat.DeadLetter
	require.NoError(t, leat.ReadDeadLetters(path, func(l leat.DeadLetter) error {
		got = append(got, l)
		return nil
	}))
	assert.Equal(t, letters, got)
}

// Rule B3: no time keeps a letter from being written. One that came as text may have the zone +24:00, which time.Parse
// takes and JSON does not.
func TestDeadLetterOfAnyZone(t *testing.T) {
	at, err := time.Parse(time.RFC3339, "2026-01-02T03:04:05+24:00")
	require.NoError(t, err)
	js, err := json.Marshal(leat.DeadLetter{Arrived: at})
	require.NoError(t, err)
	var got leat.DeadLetter
	require.NoError(t, json.Unmarshal(js, &got))
	require.True(t, at.Equal(got.Arrived), got.Arrived)
}
