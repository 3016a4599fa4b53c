package sealed

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSeal(t *testing.T) {
	t.Parallel()
	line := Append(nil, []byte(`{"a":1,"b":"x}"}`+"\n"))
	require.Equal(t, `{"a":1,"b":"x}","crc":"eff4e32c"}`+"\n", string(line), "it is in files: it must stay what it is")
	require.NoError(t, Check(line))
	require.NoError(t, Check(line[:len(line)-1]))
	var v struct{ A int }
	require.NoError(t, json.Unmarshal(line, &v))
	require.Equal(t, 1, v.A)
	for bit := range (len(line) - 1) * 8 {
		line[bit/8] ^= 1 << (bit % 8)
		require.ErrorIs(t, Check(line), Err, "bit %d", bit)
		line[bit/8] ^= 1 << (bit % 8)
	}
	for n := range len(line) - 1 {
		require.ErrorIs(t, Check(line[:n]), Err)
	}
}
