package jsonsource_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/big"
	"math/rand/v2"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/jsonsink"
	"github.com/leatgo/leat/source/jsonsource"
)

// everything has a column of each kind.
type everything struct {
	ID    int64
	B     bool
	I8    int8
	I16   int16
	I32   int32
	I64   int64
	U8    uint8
	U16   uint16
	U32   uint32
	U64   uint64
	F32   float32
	F64   float64
	S     string
	Bytes []byte
	D     time.Duration
	T     time.Time
	TS    time.Time `leat:"ts,time=2006-01-02 15:04:05"`
	Day   time.Time `leat:"día,time=2006-01-02"`
	Odd   time.Time `leat:"\"odd\",time=02/01/2006 15:04"`
	Dec   decimal.Decimal
	Money string `leat:"money,decimal=18.2"`
	Big   big.Int
	Net   netip.Addr
	PI    *int64
	PB    *bool
	PS    *string
	PT    *time.Time
	PD    *decimal.Decimal
	NI    sql.NullInt64
	NS    sql.Null[string]
	NT    sql.Null[time.Time]
	Raw   json.RawMessage
	Map   map[string]float64
	Any   any
	List  []string
	Deep  struct{ A []struct{ B *int } }
	More  map[string]any `leat:"more,extra"`
}

func someOfEverything(r *rand.Rand, id int64) everything {
	runes := []rune("aé😀\"\\/\n\r\t\x00\u2028 <&>日\u007f\ufffd{}[],:")
	text := func() string {
		out := make([]rune, r.IntN(50))
		for i := range out {
			out[i] = runes[r.IntN(len(runes))]
		}
		return string(out)
	}
	at := time.Unix(r.Int64N(200e9)-60e9, r.Int64N(1e9)).UTC()
	n := int64(r.Uint64()) >> r.IntN(64)
	v := everything{
		ID: id, B: r.IntN(2) == 0, I8: int8(n), I16: int16(n), I32: int32(n), I64: n, U8: uint8(n), U16: uint16(n), U32: uint32(n), U64: r.Uint64(),
		F32: float32(r.NormFloat64()), F64: r.NormFloat64() * math.Pow10(r.IntN(60)-30), S: text(), Bytes: []byte(text()), D: time.Duration(n), T: at,
		TS: at.Truncate(time.Second), Day: at.Truncate(24 * time.Hour), Odd: at.Truncate(time.Minute), Money: fmt.Sprintf("%d.50", r.IntN(1e9)),
		Net: netip.AddrFrom4([4]byte{10, 0, byte(n), byte(id)}), Raw: json.RawMessage(`{"a":[1.50,"x"]}`), Map: map[string]float64{text(): 0.1},
		Any: []any{json.Number("18446744073709551615"), nil, "x", true}, List: []string{text(), ""},
	}
	v.Dec, _ = decimal.NewFromString(fmt.Sprintf("%d.%02d", n, r.IntN(100)))
	v.Dec, _ = decimal.NewFromString(v.Dec.String()) // the text has no trailing zeros
	v.Big.SetUint64(r.Uint64())
	v.Big.Mul(&v.Big, &v.Big)
	v.Deep.A = append(v.Deep.A, struct{ B *int }{nil})
	if id%2 == 0 {
		s, b := text(), true
		v.PI, v.PB, v.PS, v.PT, v.PD = &n, &b, &s, &v.T, &v.Dec
		v.NI, v.NS, v.NT = sql.NullInt64{Int64: n, Valid: true}, sql.Null[string]{V: s, Valid: true}, sql.Null[time.Time]{V: v.TS, Valid: true}
		v.More = map[string]any{"k" + text(): json.Number("1.0"), "s": []any{text()}}
	} else {
		v.Any, v.Raw, v.Map, v.List = nil, json.RawMessage("null"), nil, nil
	}
	return v
}

// What jsonsink writes, jsonsource reads back into the same rows: all types, all
// compressions, through the engine.
func TestReadsWhatJSONSinkWrites(t *testing.T) {
	t.Parallel()
	for _, compression := range []jsonsink.Compression{jsonsink.None, jsonsink.Gzip, jsonsink.Zstd} {
		t.Run(compression.String(), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			r := rand.New(rand.NewPCG(1, uint64(compression)))
			rows := make([]everything, 1500)
			for i := range rows {
				rows[i] = someOfEverything(r, int64(i))
			}
			run := func(name string, from func(p *leat.Pipeline) leat.Flow[everything], to leat.Sink[everything]) {
				p := leat.New(name, leat.Config{StateDir: filepath.Join(dir, name), Logger: slog.New(slog.DiscardHandler)})
				leat.To(from(p), to)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				require.NoError(t, p.Run(ctx))
			}
			out := filepath.Join(dir, "out")
			run("write", func(p *leat.Pipeline) leat.Flow[everything] { return leat.From(p, leattest.Rows(rows...)) },
				jsonsink.New(jsonsink.Config[everything]{Dir: out, Compression: compression, Roll: jsonsink.Roll{Rows: 1000}}))
			sink := leattest.Collect[everything]()
			run("read", func(p *leat.Pipeline) leat.Flow[everything] {
				return leat.From(p, jsonsource.New(jsonsource.Config[everything]{Dir: out, ChunkBytes: 100 << 10}))
			}, sink)
			got := sink.Committed()
			require.Len(t, got, len(rows))
			for i := range got {
				require.Equal(t, rows[i], got[i], "row %d", i)
			}
		})
	}
}
