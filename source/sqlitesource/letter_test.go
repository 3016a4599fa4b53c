package sqlitesource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// Any text in the place of a letter's row is a row, a reject or an error.
func FuzzLetter(f *testing.F) {
	for _, s := range []string{
		`{"id":2,"name":null,"t":"2025-01-01","by":{"blob":"Ag=="},"f":1.5,"b":1,"g":"x!"}`,
		`{"ID":2,"NAME":{"text":"/w=="},"t":1,"by":"x","f":{"float":"+Inf"},"b":true,"g":"panic!"}`,
		`{}`, `[]`, `{"id":2}x`, `null`, "",
	} {
		f.Add([]byte(s))
	}
	type fila struct {
		ID     int64
		Name   *string
		T      time.Time
		By     []byte
		F      float32
		B      bool
		G      grita
		Offset int64 `leat:"@offset"`
	}
	src := New(Config[fila]{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		out := new(leat.Batch[fila])
		err := src.DecodeLetter(leat.DeadLetter{ID: "x", Offset: 7, Raw: raw}, out, 3)
		if err != nil {
			require.Zero(t, out.Len())
			require.NotEmpty(t, err.Error())
			return
		}
		if out.Len() == 1 {
			require.Equal(t, int64(7), out.Rows()[0].Offset)
		}
		require.LessOrEqual(t, out.Len(), 1)
	})
}
