package sqlitesink

import (
	"database/sql"
	"errors"
	"math"
	"os"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

func writeFile(t testing.TB, path, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

// grita is a text form that can fail and panic.
type grita string

func (g grita) MarshalText() ([]byte, error) {
	switch g {
	case "error":
		return nil, errors.New("no voice")
	case "panic":
		panic("aaah")
	}
	return []byte(g + "!"), nil
}

type todo struct {
	B    bool
	I8   int8
	I    int64
	U8   uint8
	U    uint64
	F32  float32
	F    float64
	S    string
	T    time.Time
	D    time.Time `leat:"d,time=2006-01-02"`
	Dur  time.Duration
	By   []byte
	Dec  decimal.Decimal
	G    grita
	PS   *string
	PT   *time.Time `leat:"pt,time=2006-01-02 15:04:05"`
	NI   sql.Null[int64]
	NS   sql.NullString
	PBy  *[]byte
	PDec *decimal.Decimal
}

func TestTypes(t *testing.T) {
	t.Parallel()
	path := dbPath(t)
	s := open(t, Config[todo]{Path: path})
	text, day := "hola\x00mundo", time.Date(2025, 2, 3, 4, 5, 6, 700, time.FixedZone("", 3600))
	blob, dec := []byte{1, 2}, decimal.RequireFromString("-0.10")
	full := todo{true, -8, math.MinInt64, 255, math.MaxInt64, 0.5, math.Inf(-1), "ñ'\"", day, day, time.Second, []byte{0, 255},
		decimal.RequireFromString("12345678901234567890.120"), "ay", &text, &day, sql.Null[int64]{V: 5, Valid: true}, sql.NullString{String: "s", Valid: true}, &blob, &dec}
	require.NoError(t, s.write(t.Context(), []todo{full, {}}))
	commit(t, s, upTo(2))
	assert.Equal(t, [][]string{
		{"int 1", "int -8", "int -9223372036854775808", "int 255", "int 9223372036854775807", "real 0.5", "real -Inf", "text ñ'\"",
			"text 2025-02-03T03:05:06.0000007Z", "text 2025-02-03", "int 1000000000", "blob 00ff", "text 12345678901234567890.12", "text ay!",
			"text hola\x00mundo", "text 2025-02-03 03:05:06", "int 5", "text s", "blob 0102", "text -0.1"},
		{"int 0", "int 0", "int 0", "int 0", "int 0", "real 0", "real 0", "text ", "text 0001-01-01T00:00:00Z", "text 0001-01-01", "int 0",
			"blob ", "text 0", "text !", "null", "null", "null", "null", "null", "null"},
	}, ask(t, path, "SELECT * FROM ventas"))
	assert.Equal(t, [][]string{{"text integer", "text real", "text text", "text blob"}},
		ask(t, path, "SELECT typeof(b), typeof(f32), typeof(dec), typeof(by) FROM ventas LIMIT 1"))
}

func TestValuesThatAreRefused(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		row  todo
		want string
	}{
		"uint64 above int64": {todo{U: math.MaxInt64 + 1}, "u/range"},
		"NaN":                {todo{F: math.NaN()}, "f/range"},
		"NaN in a float32":   {todo{F32: float32(math.NaN())}, "f32/range"},
		"the year 10000":     {todo{T: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, "t/range"},
		"MarshalText fails":  {todo{G: "error"}, "g/type"},
		"A9: it panics":      {todo{G: "panic"}, "/panic"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := dbPath(t)
			s := open(t, Config[todo]{Path: path})
			require.NoError(t, s.write(t.Context(), []todo{{I: 1}}))
			err := s.write(t.Context(), []todo{{I: 2}, c.row, {I: 3}, c.row})
			assert.Equal(t, []int{1, 3}, refusedRows(t, err), "all rows at fault in one pass")
			assert.Equal(t, c.want, because(t, err))
			assert.NotErrorIs(t, err, leat.ErrAborted)
			require.NoError(t, s.write(t.Context(), []todo{{I: 2}, {I: 3}}))
			commit(t, s, upTo(4))
			assert.Equal(t, [][]string{{"int 1"}, {"int 2"}, {"int 3"}}, ask(t, path, "SELECT i FROM ventas"))
		})
	}
}

func TestTooBig(t *testing.T) {
	t.Parallel()
	s := open(t, Config[venta]{Path: dbPath(t)})
	s.binder.limit = 10
	err := s.write(t.Context(), []venta{{1, "short"}, {2, "much too long"}})
	assert.Equal(t, []int{1}, refusedRows(t, err))
	assert.Equal(t, "nombre/size", because(t, err))

	// A row can be too long as a whole, which only SQLite knows.
	s.binder.limit = 1 << 30
	s.db.conn.Limit(0, 1000) // SQLITE_LIMIT_LENGTH
	err = s.write(t.Context(), []venta{{1, string(make([]byte, 2000))}, {2, "b"}})
	assert.Equal(t, []int{0}, refusedRows(t, err))
}
