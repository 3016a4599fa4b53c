package avrocodec

import (
	"database/sql"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Text is UTF-8 wherever it lies in the row.
func TestTextIsUTF8(t *testing.T) {
	type Line struct {
		S    string
		Next *Line `leat:"-"`
	}
	type Row struct {
		E string
		O *string
		T []string
		M map[string]string
		N struct {
			S string
			P *string
		}
		L  []Line
		ML map[string][]Line
		A  [1]string
		I  map[string]any
	}
	const schema = `{"type":"record","name":"R","fields":[
		{"name":"e","type":"string"},
		{"name":"o","type":["null","string"]},
		{"name":"t","type":{"type":"array","items":"string"}},
		{"name":"m","type":{"type":"map","values":"string"}},
		{"name":"n","type":{"type":"record","name":"N","fields":[{"name":"s","type":"string"},{"name":"p","type":["null","string"]}]}},
		{"name":"l","type":{"type":"array","items":{"type":"record","name":"Line","fields":[{"name":"s","type":"string"}]}}},
		{"name":"ml","type":{"type":"map","values":{"type":"array","items":"Line"}}},
		{"name":"a","type":{"type":"array","items":"string"}},
		{"name":"i","type":{"type":"map","values":["null","string",{"type":"array","items":"string"}]}}]}`
	columns := []string{"e", "o", "t", "m", "n", "l", "ml", "a", "i"}
	none := []string{"00", "00", "00", "00", "0000", "00", "00", "020000", "00"}
	good := []string{"0261", "020261", "02026100", "020261026100", "0261020261", "02026100", "02026102026100" + "00", "02026100", "04026100026202026100"}
	bad := [][]string{{"02ff"}, {"0202ff"}, {"0202ff00", "04026102ff00"}, {"02026102ff00", "0202ff026100"}, {"02ff00", "000202ff"},
		{"0202ff00"}, {"0202610202ff0000", "0202ff0000"}, {"0202ff00"},
		{"02026102" + "02ff00", "0202610402" + "02ff0000"}}
	for _, fields := range [][]string{none, good} {
		_, err := decodeBytes[Row](schema, strings.Join(fields, ""))
		require.NoError(t, err)
		for i, column := range columns {
			for _, text := range bad[i] {
				body := slices.Clone(fields)
				body[i] = text
				_, err := decodeBytes[Row](schema, strings.Join(body, ""))
				require.ErrorContains(t, err, "column "+column+": not valid UTF-8", text)
			}
		}
	}
}

// What is written is UTF-8 as well: nobody could read it, this codec included.
func TestTextIsWrittenAsUTF8(t *testing.T) {
	type Row struct {
		S string
		P *string
		A []string
		M map[string]string
		N sql.Null[string]
	}
	text, err := Derive[Row]("")
	require.NoError(t, err)
	k := New(Config[Row]{Schema: text})
	good, bad := "añb", "a\xff"
	rows := func(s string) map[string]Row {
		return map[string]Row{"s": {S: s}, "p": {P: &s}, "a": {A: []string{"", s}}, "m": {M: map[string]string{s: ""}}, "n": {N: sql.Null[string]{V: s, Valid: true}}}
	}
	for column, row := range rows(bad) {
		b, err := k.Encode(t.Context(), "t", []byte("kept"), &row)
		require.ErrorContains(t, err, "column "+column+": not valid UTF-8")
		require.Equal(t, "kept", string(b))
	}
	for column, row := range rows(good) {
		_, err := k.Encode(t.Context(), "t", nil, &row)
		require.NoError(t, err, column)
	}
}
