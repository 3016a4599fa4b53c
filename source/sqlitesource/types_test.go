package sqlitesource

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/sqlitesink"
)

// grita is a text form that can fail and panic.
type grita string

func (g grita) MarshalText() ([]byte, error) { return []byte(g + "!"), nil }
func (g *grita) UnmarshalText(b []byte) error {
	switch s := string(b); s {
	case "error!":
		return errors.New("no voice")
	case "panic!":
		panic("aaah")
	default:
		*g = grita(strings.TrimSuffix(s, "!"))
	}
	return nil
}

// todo has a column of each type that sqlitesink takes.
type todo struct {
	ID   int64 `leat:"id,key"`
	B    bool
	I8   int8
	I16  int16
	I32  int32
	I    int
	U8   uint8
	U16  uint16
	U32  uint32
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
	PB   *bool
	PI   *int32
	PF   *float64
	PS   *string
	PT   *time.Time `leat:"pt,time=2006-01-02 15:04:05"`
	NI   sql.Null[int64]
	NS   sql.NullString
	NT   sql.NullTime
	PBy  *[]byte
	PDec *decimal.Decimal
}

// anything makes a row of values that are often at their ends.
func anything(rng *rand.Rand, id int64) todo {
	text := func() string {
		return []string{"", "a", "ñ'\"\\", "with\x00zero", "no UTF-8: \xff\xfe", "\u2028", "12", strings.Repeat("long ", 300)}[rng.IntN(8)]
	}
	integer := func() int64 {
		return []int64{0, 1, -1, math.MaxInt64, math.MinInt64, 1 << 53, 1<<53 + 1, rng.Int64()}[rng.IntN(8)]
	}
	float := func() float64 {
		return []float64{0, 1, -1.5, math.Inf(1), math.Inf(-1), math.MaxFloat64, math.SmallestNonzeroFloat64, 0.1, 1e18, rng.NormFloat64()}[rng.IntN(10)]
	}
	at := func() time.Time {
		return time.Date(rng.IntN(10000), 1, 1+rng.IntN(365), rng.IntN(24), rng.IntN(60), rng.IntN(60), []int{0, 1, 500_000_000, 999_999_999}[rng.IntN(4)], time.UTC)
	}
	dec := func() decimal.Decimal { return decimal.New(integer(), int32(rng.IntN(40)-20)) }
	bytes := func() []byte { return []byte(text()) }
	v := todo{ID: id, B: rng.IntN(2) == 0, I8: int8(integer()), I16: int16(integer()), I32: int32(integer()), I: int(integer()),
		U8: uint8(integer()), U16: uint16(integer()), U32: uint32(integer()), U: uint64(integer()) &^ (1 << 63),
		F32: float32(float()), F: float(), S: text(), T: at(), D: at().Truncate(24 * time.Hour), Dur: time.Duration(integer()), By: bytes(), Dec: dec(), G: "g"}
	if rng.IntN(2) == 0 {
		b, i, f, s, t, by, d := rng.IntN(2) == 0, int32(integer()), float(), text(), at().Truncate(time.Second), bytes(), dec()
		v.PB, v.PI, v.PF, v.PS, v.PT, v.PBy, v.PDec = &b, &i, &f, &s, &t, &by, &d
		v.NI, v.NS, v.NT = sql.Null[int64]{V: integer(), Valid: true}, sql.NullString{String: text(), Valid: true}, sql.NullTime{Time: at(), Valid: true}
	}
	return v
}

func quiet(dir string) leat.Config {
	return leat.Config{StateDir: filepath.Join(dir, "state"), Logger: slog.New(slog.DiscardHandler), Retry: leat.Retry{First: time.Millisecond, Max: 10 * time.Millisecond}}
}

// What sqlitesink writes is read back as it was, for every type that it takes, by either of
// its ways, and from a database in any encoding.
func TestWhatSqlitesinkWrites(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"UTF-8", "UTF-16le", "UTF-16be"} {
		for _, index := range []bool{false, true} { // with an index rows are written one by one
			t.Run(fmt.Sprint(encoding, index), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				db := filepath.Join(dir, "v.db")
				exec(t, db, "PRAGMA encoding='"+encoding+"'", "CREATE TABLE x (a)")
				rng := rand.New(rand.NewPCG(1, 2))
				rows := make([]todo, 500)
				for i := range rows {
					rows[i] = anything(rng, int64(i))
					if encoding != "UTF-8" { // there is no way to store what is not Unicode
						clean := func(s string) string { return strings.ToValidUTF8(s, "?") }
						rows[i].S, rows[i].NS.String = clean(rows[i].S), clean(rows[i].NS.String)
						if rows[i].PS != nil {
							*rows[i].PS = clean(*rows[i].PS)
						}
					}
				}
				p := leat.New("write", quiet(dir))
				leat.To(leat.From(p, leattest.Rows(rows[:250]...)), sqlitesink.New(sqlitesink.Config[todo]{Path: db, Table: "todo"}))
				require.NoError(t, p.Run(t.Context()))
				if index {
					exec(t, db, "CREATE INDEX i ON todo (s)")
				}
				p = leat.New("write", quiet(dir))
				leat.To(leat.From(p, leattest.Rows(rows...)), sqlitesink.New(sqlitesink.Config[todo]{Path: db, Table: "todo"}))
				require.NoError(t, p.Run(t.Context()))

				sink := leattest.Collect[todo]()
				p = leat.New("read", quiet(dir))
				leat.To(leat.From(p, New(Config[todo]{Path: db, Table: "todo", Cursor: "id"})), sink)
				require.NoError(t, p.Run(t.Context()))
				got := sink.Committed()
				require.Len(t, got, len(rows))
				for i := range rows {
					require.True(t, rows[i].Dec.Equal(got[i].Dec), "%v, %v", rows[i].Dec, got[i].Dec)
					got[i].Dec = rows[i].Dec // the same number has several forms in memory
					if d := rows[i].PDec; d != nil {
						require.True(t, d.Equal(*got[i].PDec))
						got[i].PDec = d
					}
					require.Equal(t, rows[i], got[i])
				}
			})
		}
	}
}

// Any value in any field is either what it was, or one rejected row with column and rule.
func TestConversions(t *testing.T) {
	t.Parallel()
	type one struct {
		ID  int64
		B   *bool
		I8  *int8
		I   *int64
		U   *uint64
		F   *float64
		F32 *float32
		S   *string
		By  *[]byte
		T   *time.Time
		Dur *time.Duration
		Dec *decimal.Decimal
	}
	str := func(v any, ok bool) string {
		if !ok {
			return "NULL"
		}
		return fmt.Sprint(v)
	}
	show := func(r one) map[string]string {
		m := map[string]string{}
		if r.B != nil {
			m["b"] = str(*r.B, true)
		}
		if r.I8 != nil {
			m["i8"] = str(*r.I8, true)
		}
		if r.I != nil {
			m["i"] = str(*r.I, true)
		}
		if r.U != nil {
			m["u"] = str(*r.U, true)
		}
		if r.F != nil {
			m["f"] = str(*r.F, true)
		}
		if r.F32 != nil {
			m["f32"] = str(*r.F32, true)
		}
		if r.S != nil {
			m["s"] = *r.S
		}
		if r.By != nil {
			m["by"] = fmt.Sprintf("%x", *r.By)
		}
		if r.T != nil {
			m["t"] = r.T.Format(time.RFC3339Nano)
		}
		if r.Dur != nil {
			m["dur"] = r.Dur.String()
		}
		if r.Dec != nil {
			m["dec"] = r.Dec.String()
		}
		return m
	}
	columns := []string{"b", "i8", "i", "u", "f", "f32", "s", "by", "t", "dur", "dec"}
	for literal, want := range map[string]string{ // by column; /rule is a rejection
		"NULL":                     "- - - - - - - - - - -",
		"0":                        "false 0 0 0 0 0 0 /type /type 0s 0",
		"1":                        "true 1 1 1 1 1 1 /type /type 1ns 1",
		"-7":                       "/range -7 -7 /range -7 -7 -7 /type /type -7ns -7",
		"300":                      "/range /range 300 300 300 300 300 /type /type 300ns 300",
		"9007199254740993":         "/range /range 9007199254740993 9007199254740993 /range /range 9007199254740993 /type /type 2501h59m59.254740993s 9007199254740993",
		"9223372036854775807":      "/range /range 9223372036854775807 9223372036854775807 /range /range 9223372036854775807 /type /type 2562047h47m16.854775807s 9223372036854775807",
		"1.5":                      "/type /type /type /type 1.5 1.5 1.5 /type /type /type 1.5",
		"2.0":                      "/type 2 2 2 2 2 2 /type /type /type 2",
		"1e300":                    "/type /type /type /type 1e+300 /range 1e+300 /type /type /type 1" + strings.Repeat("0", 300),
		"-1e999":                   "/type /type /type /type -Inf -Inf -Inf /type /type /type /syntax",
		"'12'":                     "/syntax 12 12 12 12 12 12 3132 /syntax 12ns 12",
		"'true'":                   "true /syntax /syntax /syntax /syntax /syntax true 74727565 /syntax /syntax /syntax",
		"''":                       "/empty /empty /empty /empty /empty /empty  - /empty /empty /syntax",
		"' 1'":                     "/syntax /syntax /syntax /syntax /syntax /syntax  1 2031 /syntax /syntax /syntax",
		"'2025-01-02 03:04:05'":    "/syntax /syntax /syntax /syntax /syntax /syntax 2025-01-02_03:04:05 323032352d30312d30322030333a30343a3035 2025-01-02T03:04:05Z /syntax /syntax",
		"'99999999999999999999.5'": "/syntax /syntax /syntax /syntax 1e+20 1e+20 99999999999999999999.5 39393939393939393939393939393939393939392e35 /syntax /syntax 99999999999999999999.5",
		"x'00ff'":                  "/type /type /type /type /type /type /type 00ff /type /type /type",
		"cast(x'ff61' as text)":    "/syntax /syntax /syntax /syntax /syntax /syntax \xffa ff61 /syntax /syntax /syntax",
	} {
		t.Run(literal, func(t *testing.T) {
			t.Parallel()
			wants := strings.Split(want, " ")
			if literal == "' 1'" {
				wants = []string{"/syntax", "/syntax", "/syntax", "/syntax", "/syntax", "/syntax", " 1", "2031", "/syntax", "/syntax", "/syntax"}
			}
			require.Len(t, wants, len(columns))
			dir := t.TempDir()
			create := []string{"CREATE TABLE t (id INTEGER PRIMARY KEY, " + strings.Join(columns, ", ") + ")"}
			for i, c := range columns {
				create = append(create, fmt.Sprintf("INSERT INTO t (id, %s) VALUES (%d, %s)", c, i, literal))
			}
			db := made(t, create...)
			sink := leattest.Collect[one]()
			c := quiet(dir)
			c.Breaker.Share = -1
			p := leat.New("read", c)
			leat.To(leat.From(p, New(Config[one]{Path: db, Table: "t", Cursor: "id"})), sink)
			require.NoError(t, p.Run(t.Context()))

			got := map[string]string{}
			for _, r := range sink.Committed() {
				c := columns[r.ID]
				if got[c] = "-"; len(show(r)) > 0 {
					got[c] = show(r)[c]
				}
			}
			for l, err := range letters(dir) {
				require.NoError(t, err)
				require.Equal(t, leat.Decode, l.Class)
				got[l.Column] = "/" + l.Rule
				require.NotContains(t, l.Error, "\n")
			}
			for i, c := range columns {
				w := strings.ReplaceAll(wants[i], "_", " ")
				if w == "-" && c == "by" && literal == "''" {
					w = ""
				}
				assert.Equal(t, w, got[c], "%s into %s", literal, c)
			}
		})
	}
}

func letters(dir string) func(yield func(leat.DeadLetter, error) bool) {
	return func(yield func(leat.DeadLetter, error) bool) {
		stop := errors.New("stop")
		err := leat.ReadDeadLetters(filepath.Join(dir, "state", "dead-letters.jsonl"), func(l leat.DeadLetter) error {
			if !yield(l, nil) {
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			yield(leat.DeadLetter{}, err)
		}
	}
}

// Bad rows are rejected alone, and their letters, mended or not, are decoded again.
func TestLetters(t *testing.T) {
	t.Parallel()
	type fila struct {
		ID   int64
		Name string
		Blob []byte
		G    grita
	}
	dir := t.TempDir()
	db := made(t, "CREATE TABLE t (id INTEGER PRIMARY KEY, name, blob, g, other)",
		"INSERT INTO t VALUES (1, 'a', x'01', 'x!', 0), (2, NULL, x'02', 'x!', 9223372036854775807), (3, 'c', x'03', 'panic!', 1.0), (4, 'd', 17, 'x!', cast(x'ff' as text)), (5, cast(x'ff' as text), x'', 'error!', 1e999), (6, 'f', x'06', 'x!', 0)")
	build := func(sink *leattest.Collector[fila]) *leat.Pipeline {
		c := quiet(dir)
		c.Breaker.Share = -1
		p := leat.New("read", c)
		leat.To(leat.From(p, New(Config[fila]{Path: db, Table: "t", Cursor: "id"})), sink)
		return p
	}
	sink := leattest.Collect[fila]()
	require.NoError(t, build(sink).Run(t.Context()))
	require.Equal(t, []fila{{1, "a", []byte{1}, "x"}, {6, "f", []byte{6}, "x"}}, sink.Committed(), "neighbours live")
	var raws, rules []string
	for l, err := range letters(dir) {
		require.NoError(t, err)
		raws, rules = append(raws, string(l.Raw)), append(rules, fmt.Sprintf("%d %s/%s", l.Offset, l.Column, l.Rule))
		require.Equal(t, int64(len(rules)+1), l.Offset)
	}
	require.Equal(t, []string{"2 name/null", "3 /", "4 blob/type", "5 g/syntax"}, rules)
	require.Equal(t, []string{
		`{"id":2,"name":null,"blob":{"blob":"Ag=="},"g":"x!"}`,
		`{"id":3,"name":"c","blob":{"blob":"Aw=="},"g":"panic!"}`,
		`{"id":4,"name":"d","blob":17,"g":"x!"}`,
		`{"id":5,"name":{"text":"/w=="},"blob":{"blob":""},"g":"error!"}`,
	}, raws)

	mended := func(yield func(leat.DeadLetter, error) bool) {
		for l, err := range letters(dir) {
			raw := strings.NewReplacer("null", `"b"`, "panic!", "y!", ":17", `:{"blob":"BA=="}`, "error!", "z!").Replace(string(l.Raw))
			l.Raw = []byte(raw)
			if !yield(l, err) {
				return
			}
		}
	}
	next := sink.Successor()
	stats, err := leat.Replay(t.Context(), build(next), mended)
	require.NoError(t, err)
	require.Equal(t, 4, stats.Journaled, "%v", stats.Why)
	require.Equal(t, []fila{{1, "a", []byte{1}, "x"}, {6, "f", []byte{6}, "x"}, {2, "b", []byte{2}, "x"}, {3, "c", []byte{3}, "y"}, {4, "d", []byte{4}, "x"}, {5, "\xff", []byte{}, "z"}}, next.Committed())
}
