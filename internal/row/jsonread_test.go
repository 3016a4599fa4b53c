package row

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func readJSON[T any](t testing.TB, rules JSONRules, text string) (T, error) {
	t.Helper()
	var r T
	return r, NewJSONPlan(mustOf[T](t), rules).Decoder().Text([]byte(text), unsafe.Pointer(&r))
}

// noNull is written as a number and can't be null; siNull is null when it is zero.
type (
	noNull struct{ n int }
	siNull struct{ n *int }
	loud   struct{ s string }
)

func (n *noNull) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &n.n) }
func (n noNull) MarshalJSON() ([]byte, error)  { return json.Marshal(n.n) }
func (n *siNull) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &n.n) }
func (n siNull) MarshalJSON() ([]byte, error)  { return json.Marshal(n.n) }

// loud scribbles over what it is given, and refuses.
func (l *loud) UnmarshalJSON(b []byte) error {
	l.s = string(b)
	for i := range b {
		b[i] = '!'
	}
	if l.s == `"no"` {
		return errors.New("no\nquiero")
	}
	return nil
}

func TestJSONErrors(t *testing.T) {
	t.Parallel()
	type fila struct {
		I8   int8
		U    uint16
		F    float32
		S    string
		T    time.Time
		TD   time.Time `leat:"td,time=2006-01-02"`
		By   []byte
		B    bool
		D    time.Duration
		Dec  decimal.Decimal
		Net  netip.Addr
		DS   string `leat:"ds,decimal=18.2"`
		Sl   []int
		St   struct{ N int8 }
		Loud loud
		No   noNull
		Si   siNull
		P    *int8
	}
	for _, c := range []struct{ text, column, rule, msg string }{
		{`{"i8":300}`, "i8", RuleRange, `column i8: "300" is out of range for int8 (byte 7, $.i8)`},
		{`{"u":-1}`, "u", RuleRange, `column u: "-1" is out of range for uint16 (byte 6, $.u)`},
		{`{"u":-0}`, "u", RuleRange, `column u: "-0" is out of range for uint16 (byte 6, $.u)`},
		{`{"i8":1.0}`, "i8", RuleType, `column i8: "1.0" has a point or an exponent, but the column must hold an int8 (byte 7, $.i8)`},
		{`{"i8":1e1}`, "i8", RuleType, `column i8: "1e1" has a point or an exponent, but the column must hold an int8 (byte 7, $.i8)`},
		{`{"d":1.5}`, "d", RuleType, `column d: "1.5" has a point or an exponent, but the column must hold a duration (byte 6, $.d)`},
		{`{"d":"1h"}`, "d", RuleType, `column d: there is a string, but the column must hold a duration (byte 6, $.d)`},
		{`{"i8":"3"}`, "i8", RuleType, `column i8: there is a string, but the column must hold an int8 (byte 7, $.i8)`},
		{`{"p":"3"}`, "p", RuleType, `column p: there is a string, but the column must hold an int8 (byte 6, $.p)`},
		{`{"s":{"a":1}}`, "s", RuleType, `column s: there is an object, but the column must hold a string (byte 6, $.s)`},
		{`{"s":1}`, "s", RuleType, `column s: there is a number, but the column must hold a string (byte 6, $.s)`},
		{`{"b":0}`, "b", RuleType, `column b: there is a number, but the column must hold a bool (byte 6, $.b)`},
		{`{"b":[]}`, "b", RuleType, `column b: there is an array, but the column must hold a bool (byte 6, $.b)`},
		{`{"s":true}`, "s", RuleType, `column s: there is a bool, but the column must hold a string (byte 6, $.s)`},
		{`{"f":1e39}`, "f", RuleRange, `column f: "1e39" is out of range for float32 (byte 6, $.f)`},
		{`{"s":null}`, "s", RuleNull, `column s: null, but the column must hold a string (byte 6, $.s)`},
		{`{"by":null}`, "by", RuleNull, `column by: null, but the column must hold bytes (byte 7, $.by)`},
		{`{"st":null}`, "st", RuleNull, `column st: null, but the column must hold a struct { N int8 } (byte 7, $.st)`},
		{`{"dec":null}`, "dec", RuleNull, `column dec: null, but the column must hold a decimal.Decimal (byte 8, $.dec)`},
		{`{"no":null}`, "no", RuleNull, `column no: null, but the column must hold a row.noNull (byte 7, $.no)`},
		{`{"t":"ayer"}`, "t", RuleSyntax, `column t: "ayer" is not a time such as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05 (byte 6, $.t)`},
		{`{"t":""}`, "t", RuleSyntax, `column t: the text is empty, but the column must hold a time (byte 6, $.t)`},
		{`{"td":"2025-13-01"}`, "td", RuleRange, `column td: "2025-13-01" is not a time in the layout 2006-01-02 (month out of range) (byte 7, $.td)`},
		{`{"t":1}`, "t", RuleType, `column t: there is a number, but the column must hold a time (byte 6, $.t)`},
		{`{"by":"*"}`, "by", RuleSyntax, `column by: "*" is not base64 (byte 7, $.by)`},
		{`{"dec":"uno"}`, "dec", RuleSyntax, `column dec: "\"uno\"" cannot be read into decimal.Decimal: error decoding string '"uno"': can't convert uno to decimal (byte 8, $.dec)`},
		{`{"net":"aquí"}`, "net", RuleSyntax, `column net: "aquí" is not a netip.Addr: ParseAddr("aquí"): unable to parse IP (byte 8, $.net)`},
		{`{"net":true}`, "net", RuleType, `column net: there is a bool, but the column must hold a netip.Addr (byte 8, $.net)`},
		{`{"sl":[1,"x"]}`, "sl", RuleType, `column sl: "[1,\"x\"]" cannot be read into []int: json: cannot unmarshal string into Go value of type int (byte 7, $.sl)`},
		{`{"loud":"no"}`, "loud", RuleSyntax, `column loud: "\"no\"" cannot be read into row.loud: no\nquiero (byte 9, $.loud)`},
		{`{"s":"a","s":"b"}`, "", RuleDuplicate, `the JSON text is refused: the key "s" comes twice (byte 14, $.s)`},
		{`{"s":"a","\u0073":"b"}`, "", RuleDuplicate, `the JSON text is refused: the key "s" comes twice (byte 19, $["\\u0073"])`},
		{`{"s":"a","otra":1}`, "", RuleUnknown, `the JSON text is refused: there is no column for the key "otra" (byte 17, $.otra)`},
		{``, "", RuleSyntax, `the JSON text is refused: it ends where there should be a value (byte 1, $)`},
		{`[{"s":1}]`, "", RuleType, `the JSON text is refused: it is an array, and no object (byte 1, $)`},
		{`[{"s":1},}`, "", RuleSyntax, `the JSON text is refused: there is '}' where there should be a value (byte 10, $[1])`},
		{`7 8`, "", RuleSyntax, `the JSON text is refused: there is '8' where there should be the end of the text (byte 3, $)`},
		{`{"s":"a"} x`, "", RuleSyntax, `the JSON text is refused: there is 'x' where there should be the end of the text (byte 11, $)`},
		{`{"s":"a";}`, "", RuleSyntax, `the JSON text is refused: there is ';' where there should be ',' or '}' (byte 9, $.s)`},
		{`{"s":"a",}`, "", RuleSyntax, `the JSON text is refused: there is '}' where there should be a key in quotes (byte 10, $)`},
		{`{"sl":[{"a":[1,2,{"b c":[tru`, "", RuleSyntax, `the JSON text is refused: it ends where there should be the rest of true (byte 29, $.sl[0].a[2]["b c"][0])`},
		{"{\"s\":\"a\x02\"}", "", RuleSyntax, `the JSON text is refused: there is the control character 0x02 in a string; it must be written with a backslash (byte 8, $.s)`},
		{"{\"s\":\"a\xff\"}", "", RuleUTF8, `the JSON text is refused: byte 0xff is not UTF-8 (byte 8, $.s)`},
		{"{\"s\":\xff}", "", RuleSyntax, `the JSON text is refused: there is byte 0xff where there should be a value (byte 6, $.s)`},
		{`{"s":"a\ud800x"}`, "", RuleUTF8, `the JSON text is refused: \ud800 is half of a pair of surrogates, without the other half (byte 8, $.s)`},
		{`{"s":"a\q"}`, "", RuleSyntax, `the JSON text is refused: there is 'q' where there should be one of "\/bfnrtu behind the backslash (byte 9, $.s)`},
		{`{"s":"a\u00g0"}`, "", RuleSyntax, `the JSON text is refused: behind \u there should be four hexadecimal digits (byte 8, $.s)`},
		{`{"s":"sin fin`, "", RuleSyntax, `the JSON text is refused: it ends inside a string (byte 14, $.s)`},
		{`{"i8":01}`, "", RuleSyntax, `the JSON text is refused: there is '1' where there should be ',' or '}' (byte 8, $.i8)`},
		{`{"f":NaN}`, "", RuleSyntax, `the JSON text is refused: there is 'N' where there should be a value (byte 6, $.f)`},
		{`{"f":.5}`, "", RuleSyntax, `the JSON text is refused: there is '.' where there should be a value (byte 6, $.f)`},
		{`{"f":5.}`, "", RuleSyntax, `the JSON text is refused: there is '}' where there should be a digit (byte 8, $.f)`},
		{`{"st":{"N":[[[[[1]]]]]}}`, "", RuleDepth, `the JSON text is refused: there are more than 6 arrays and objects in each other (byte 16, $.st.N[0][0][0][0])`},
	} {
		// Far from the end of the text, and at its end: the quick way and the careful one.
		for _, room := range []string{"", "\n" + strings.Repeat("#", 100)} {
			var r fila
			d := NewJSONPlan(mustOf[fila](t), JSONRules{Unknown: RefuseUnknown, Missing: ZeroMissing, MaxDepth: 6}).Decoder()
			data := []byte(c.text + room)
			next, err := d.Line(data, 0, unsafe.Pointer(&r))
			require.Error(t, err, c.text)
			e := new(JSONError)
			require.ErrorAs(t, err, &e, c.text)
			column, rule := e.Field()
			assert.Equal(t, c.column, column, c.text)
			assert.Equal(t, c.rule, rule, c.text)
			assert.Equal(t, c.msg, err.Error(), c.text)
			assert.Equal(t, min(len(c.text)+1, len(data)), next, c.text)
			assert.Equal(t, c.text+room, string(data), "what is read is left as it is")
		}
	}
	_, err := readJSON[one[int]](t, JSONRules{}, `{"w":{"x":1}}`)
	require.EqualError(t, err, "column v: the object has no such key (byte 13, $)")
	n, err := readJSON[one[json.Number]](t, JSONRules{}, `{"v":1.50e1}`)
	require.NoError(t, err)
	require.Equal(t, json.Number("1.50e1"), n.V)

	r, err := readJSON[fila](t, JSONRules{Missing: ZeroMissing}, `{"si":null,"loud":[1, 2],"dec":1e3,"ds":1.50}`)
	require.NoError(t, err)
	assert.Equal(t, fila{Loud: loud{"[1, 2]"}, Dec: decimal.RequireFromString("1e3"), DS: "1.50"}, r)
}

// TestJSONPolicies: the same few texts under each policy.
func TestJSONPolicies(t *testing.T) {
	t.Parallel()
	type fila struct {
		A int
		N *int
		S []string
		X sql.Null[string]
	}
	ptr := func(i int) *int { return &i }
	for _, c := range []struct {
		rules JSONRules
		text  string
		rule  string
		want  fila
	}{
		{JSONRules{}, `{"a":1}`, "", fila{A: 1}},
		{JSONRules{}, `{"n":1}`, RuleMissing, fila{}},
		{JSONRules{Missing: RefuseMissing}, `{"a":1,"n":2,"s":null}`, RuleMissing, fila{}},
		{JSONRules{Missing: RefuseMissing}, `{"a":1,"n":2,"s":null,"x":"y"}`, "", fila{1, ptr(2), nil, sql.Null[string]{V: "y", Valid: true}}},
		{JSONRules{Missing: ZeroMissing}, `{}`, "", fila{}},
		{JSONRules{}, `{"a":1,"z":2,"z":3}`, "", fila{A: 1}},
		{JSONRules{Unknown: RefuseUnknown}, `{"a":1,"z":2}`, RuleUnknown, fila{}},
		{JSONRules{Unknown: RefuseUnknown}, `{"a":1,"A":2}`, RuleUnknown, fila{}},
		{JSONRules{}, `{"a":1,"a":1}`, RuleDuplicate, fila{}},
		{JSONRules{Repeated: LastRepeated}, `{"a":1,"n":5,"a":2,"n":null,"s":["x","y"],"s":["z"]}`, "", fila{A: 2, S: []string{"z"}}},
		{JSONRules{Repeated: LastRepeated}, `{"a":"x","a":2}`, RuleType, fila{}},
		{JSONRules{Repeated: FirstRepeated}, `{"a":1,"n":null,"a":"x","n":5,"x":null,"x":"q"}`, "", fila{A: 1}},
		{JSONRules{Repeated: FirstRepeated}, `{"a":1,"a":x}`, RuleSyntax, fila{}},
	} {
		got, err := readJSON[fila](t, c.rules, c.text)
		assert.Equal(t, c.rule, ruleOfJSON(t, err), "%+v %s", c.rules, c.text)
		if c.rule == "" {
			assert.Equal(t, c.want, got, "%+v %s", c.rules, c.text)
		}
	}
}

func TestJSONExtra(t *testing.T) {
	t.Parallel()
	const text = `{"a":1,"s":"lí\nnea","n": 12345678901234567890 ,"o":{ "x y" : [ 1 , "\" \\" ] },"z":null,"t":true,"\u0065":""}`
	type asText struct {
		A     int
		Otros map[string]string `leat:"otros,extra"`
	}
	got, err := readJSON[asText](t, JSONRules{}, text)
	require.NoError(t, err)
	assert.Equal(t, map[string]string{"s": "lí\nnea", "n": "12345678901234567890", "o": `{"x y":[1,"\" \\"]}`, "z": "null", "t": "true", "e": ""}, got.Otros)

	type asAny struct {
		A     int
		Otros map[string]any `leat:"otros,extra"`
	}
	any1, err := readJSON[asAny](t, JSONRules{}, text)
	require.NoError(t, err)
	assert.Equal(t, map[string]any{"s": "lí\nnea", "n": json.Number("12345678901234567890"), "o": map[string]any{"x y": []any{json.Number("1"), `" \`}},
		"z": nil, "t": true, "e": ""}, any1.Otros)

	type asRaw struct {
		A     int
		Otros map[string]json.RawMessage `leat:"otros,extra"`
	}
	raw, err := readJSON[asRaw](t, JSONRules{}, text)
	require.NoError(t, err)
	assert.Equal(t, `{"x y":[1,"\" \\"]}`, string(raw.Otros["o"]))
	assert.Equal(t, `"lí\nnea"`, string(raw.Otros["s"]))

	// What AppendJSON has written comes back as it was.
	for range 2 {
		written := rowJSON(t, &raw)
		back, err := readJSON[asRaw](t, JSONRules{}, written)
		require.NoError(t, err, written)
		assert.Equal(t, raw, back)
		raw = asRaw{A: 3}
	}
	for text, rule := range map[string]string{
		`{"a":1,"x":1,"x":2}`:             RuleDuplicate,
		`{"a":1,"x":1,"\u0078":2}`:        RuleDuplicate,
		`{"a":1,"x":1,"otros":{"x":"2"}}`: RuleDuplicate,
		`{"a":1,"otros":{"x":"2"},"x":1}`: RuleDuplicate,
		`{"a":1,"otros":7}`:               RuleType,
		`{"a":1,"x":"\ud800"}`:            RuleUTF8,
	} {
		_, err := readJSON[asText](t, JSONRules{}, text)
		assert.Equal(t, rule, ruleOfJSON(t, err), text)
	}
	// More keys than a decoder learns, and longer ones.
	var many strings.Builder
	many.WriteString(`{"a":1`)
	for i := range 2 * mostKeys {
		fmt.Fprintf(&many, `,"k%d":"v%d"`, i, i)
	}
	long := strings.Repeat("k", 2*longestKey)
	fmt.Fprintf(&many, `,%q:"lang"}`, long)
	d := NewJSONPlan(mustOf[asText](t), JSONRules{}).Decoder()
	for range 3 {
		var r asText
		require.NoError(t, d.Text([]byte(many.String()), unsafe.Pointer(&r)))
		require.Len(t, r.Otros, 2*mostKeys+1)
		for i := range 2 * mostKeys {
			require.Equal(t, fmt.Sprintf("v%d", i), r.Otros[fmt.Sprintf("k%d", i)])
		}
		require.Equal(t, "lang", r.Otros[long])
	}
	require.Len(t, d.learned, mostKeys, "what a decoder remembers of hostile keys is bounded")
}

// TestJSONNumbers: numbers of all sizes and spellings, beside strconv.
func TestJSONNumbers(t *testing.T) {
	t.Parallel()
	type fila struct {
		I int64   `json:"i"`
		U uint64  `json:"u"`
		F float64 `json:"f"`
		G float32 `json:"g"`
	}
	d := NewJSONPlan(mustOf[fila](t), JSONRules{}).Decoder()
	r := rand.New(rand.NewPCG(5, 6))
	for n := range 20_000 {
		i, u := int64(r.Uint64())>>r.IntN(64), r.Uint64()>>r.IntN(64)
		f, g := math.Float64frombits(r.Uint64()), math.Float32frombits(r.Uint32())
		if n%2 == 0 { // as people write numbers
			f, g = float64(r.IntN(1e9))/math.Pow10(r.IntN(12)), float32(r.IntN(1e6))/float32(math.Pow10(r.IntN(6)))
		}
		if !finite(f) || !finite(float64(g)) {
			continue
		}
		format := "fge"[r.IntN(3)]
		ftext, gtext := strconv.FormatFloat(f, format, -1, 64), strconv.FormatFloat(float64(g), format, -1, 32)
		text := fmt.Sprintf(`{"i":%d,"u":%d,"f":%s,"g":%s}`, i, u, ftext, gtext)
		for _, room := range []string{"", "\n" + strings.Repeat(" ", 100)} {
			var got fila
			_, err := d.Line([]byte(text+room), 0, unsafe.Pointer(&got))
			require.NoError(t, err, text)
			require.Equal(t, fila{i, u, f, g}, got, text)
		}
	}
	for _, zero := range []string{"-0", "-0.0", "-0e5", "-1e-400"} {
		for _, room := range []string{"", strings.Repeat(" ", 100)} {
			got, err := readJSON[fila](t, JSONRules{Missing: ZeroMissing}, `{"f":`+zero+`,"g":`+zero+`}`+room)
			require.NoError(t, err)
			require.True(t, math.Signbit(got.F) && math.Signbit(float64(got.G)), zero)
		}
	}
	for _, f := range []string{"0.1", "9007199254740993", "123456789012345678", "1234567.890123", "2.2250738585072011e-308", "0.3", "5e-324", "1.7976931348623157e308", "100000000000000016777215.5", "16777217"} {
		want, err := strconv.ParseFloat(f, 64)
		require.NoError(t, err)
		want32, err := strconv.ParseFloat(f, 32)
		if err != nil {
			want32 = 0
			text := fmt.Sprintf(`{"g":%s}`, f)
			_, err := readJSON[fila](t, JSONRules{Missing: ZeroMissing}, text)
			require.Equal(t, RuleRange, ruleOfJSON(t, err))
		}
		text := fmt.Sprintf(`{"f":%s}`, f)
		if err == nil {
			text = fmt.Sprintf(`{"f":%s,"g":%s}`, f, f)
		}
		got, err := readJSON[fila](t, JSONRules{Missing: ZeroMissing}, text+strings.Repeat(" ", 100))
		require.NoError(t, err)
		require.Equal(t, fila{F: want, G: float32(want32)}, got, text)
	}
}

// TestJSONKeysInAnyOrder: one decoder over lines whose keys come and go and change
// places, some spelled with escapes, with white space of all kinds.
func TestJSONKeysInAnyOrder(t *testing.T) {
	t.Parallel()
	t.Run("kept", keysInAnyOrder[ofAll])
	t.Run("ignored", keysInAnyOrder[few])
}

func keysInAnyOrder[T any](t *testing.T) {
	rt := mustOf[T](t)
	var whole map[string]json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(wholeRow), &whole))
	delete(whole, "mas")
	for k := range 6 {
		whole[fmt.Sprintf("desconocida %d", k)] = json.RawMessage(fmt.Sprintf(`[%d, {"x": "]}\"" }]`, k))
	}
	var names []string
	for name := range whole {
		names = append(names, name)
	}
	r := rand.New(rand.NewPCG(7, 8))
	space := func() string { return strings.Repeat([]string{"", "", " ", "\t", " \r"}[r.IntN(5)], r.IntN(3)) }
	rules := JSONRules{Missing: ZeroMissing, MaxDepth: DefaultDepth}
	var data []byte
	var lines []string
	for range 500 {
		if r.IntN(20) == 0 {
			r.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		}
		var b strings.Builder
		b.WriteString(space() + "{" + space())
		first := true
		drop := r.IntN(4)
		for _, name := range names {
			if r.IntN(8) < drop {
				continue
			}
			if !first {
				b.WriteString("," + space())
			}
			first = false
			key, _ := json.Marshal(name)
			if r.IntN(30) == 0 {
				key = fmt.Appendf(nil, `"\u%04x%s`, name[0], key[2:])
			}
			fmt.Fprintf(&b, "%s%s:%s%s%s", key, space(), space(), whole[name], space())
		}
		b.WriteString("}" + space())
		lines = append(lines, b.String())
		data = append(append(data, b.String()...), '\n')
	}
	d := NewJSONPlan(rt, rules).Decoder()
	at := 0
	for _, line := range lines {
		var got T
		next, err := d.Line(data, at, unsafe.Pointer(&got))
		require.NoError(t, err, line)
		require.Equal(t, at+len(line)+1, next)
		want, err := oracle[T](rt, rules, []byte(line))
		require.NoError(t, err, line)
		require.Equal(t, want, got, line)
		at = next
	}
}

// TestJSONOrderIsLearned: the order of the last row is that in which keys are looked for,
// and a key that only some rows have does not spoil it.
func TestJSONOrderIsLearned(t *testing.T) {
	t.Parallel()
	d := NewJSONPlan(mustOf[evento](t), JSONRules{Missing: ZeroMissing}).Decoder()
	order := func() (names []string) {
		for k := d.keys[0].next; len(names) < 4; k = d.keys[k].next {
			names = append(names, d.keys[k].name)
		}
		return names
	}
	require.Equal(t, []string{"id", "user", "amount", "at"}, order(), "at first it is that of the columns")
	for _, text := range []string{`{"x":1,"at":"2025-01-01","user":"u","id":1}`, `{"x":1,"user":"u","id":1}`, `{"x":1,"at":"2025-01-01","user":"u","id":1}`} {
		var e evento
		require.NoError(t, d.Text([]byte(text+strings.Repeat(" ", 100)), unsafe.Pointer(&e)))
		require.Equal(t, []string{"x", "at", "user", "id"}, order(), text)
	}
}

// TestJSONRoundTrip: what AppendJSON writes is read back, whatever is in it.
func TestJSONRoundTrip(t *testing.T) {
	t.Parallel()
	rt := mustOf[ofAll](t)
	d := NewJSONPlan(rt, JSONRules{Missing: RefuseMissing, Unknown: RefuseUnknown}).Decoder()
	r := rand.New(rand.NewPCG(9, 10))
	text := func() string {
		runes := []rune("aé😀\"\\/\n\x00\u2028 <&>日\u007f\ufffd")
		out := make([]rune, r.IntN(40))
		for i := range out {
			out[i] = runes[r.IntN(len(runes))]
		}
		return string(out)
	}
	var data []byte
	rows := make([]ofAll, 2000)
	for n := range rows {
		v := &rows[n]
		at := time.Unix(r.Int64N(200e9)-60e9, r.Int64N(1e9)).UTC()
		i := int64(r.Uint64())
		*v = ofAll{
			B: r.IntN(2) == 0, I: int64(r.Uint64()) >> r.IntN(64), I8: int8(r.Uint32()), U: r.Uint64() >> r.IntN(64), U16: uint16(r.Uint32()),
			F: r.NormFloat64() * math.Pow10(r.IntN(40)-20), F32: float32(r.NormFloat64()), S: text(), S2: text(), By: []byte(text()),
			D: time.Duration(r.Uint64()), T: at, TC: at.Truncate(time.Second), TD: at.Truncate(24 * time.Hour),
			TX:  time.Date(1970+r.IntN(60), 2, 3, 0, 0, 0, 0, time.UTC),
			Dec: decimal.New(r.Int64()>>r.IntN(60), int32(r.IntN(20)-10)), Net: netip.AddrFrom4([4]byte{1, 2, 3, byte(n)}), DS: text(),
			Raw: json.RawMessage(`{"a":[1,"x"]}`), Sl: []string{text()}, M: map[string]any{"k": json.Number("9007199254740993")}, Any: true,
		}
		v.Big.SetString(strings.Repeat("7", 1+r.IntN(60)), 10)
		v.St.A = int(i)
		v.Dec, _ = decimal.NewFromString(v.Dec.String()) // the text has no exponent
		if r.IntN(2) == 0 {
			v.P, v.PT, v.PD = &i, &v.T, &v.Dec
			v.NS, v.NI = sql.Null[string]{V: text(), Valid: true}, sql.NullInt32{Int32: int32(i), Valid: true}
			v.Mas = map[string]string{text(): text(), "s": "otra s"}
		}
		var err error
		data, err = rt.AppendJSON(data, unsafe.Pointer(v))
		require.NoError(t, err)
		data = append(data, '\n')
	}
	at := 0
	for n := range rows {
		var got ofAll
		next, err := d.Line(data, at, unsafe.Pointer(&got))
		require.NoError(t, err, "%s", data[at:next])
		require.Equal(t, rows[n], got, "%s", data[at:next])
		at = next
	}
	require.Equal(t, len(data), at)
}

// TestJSONDepth: depth costs no stack, and a text that has too much of it is refused in
// time that grows with its length and no faster.
func TestJSONDepth(t *testing.T) {
	t.Parallel()
	type fila struct{ A *int }
	for _, open := range []string{"[", `{"a":`, `[{"b":[`} {
		text := append([]byte(`{"x":`), bytes.Repeat([]byte(open), 4<<20/len(open))...)
		var r fila
		err := NewJSONPlan(mustOf[fila](t), JSONRules{}).Decoder().Text(text, unsafe.Pointer(&r))
		require.Equal(t, RuleDepth, ruleOfJSON(t, err))
		require.Less(t, len(err.Error()), 600)
		err = NewJSONPlan(mustOf[fila](t), JSONRules{MaxDepth: 1 << 30}).Decoder().Text(text, unsafe.Pointer(&r))
		require.Equal(t, RuleSyntax, ruleOfJSON(t, err), "it is not closed")
	}
	deep := func(n int) string { return `{"x":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	_, err := readJSON[fila](t, JSONRules{}, deep(DefaultDepth-1))
	require.NoError(t, err)
	_, err = readJSON[fila](t, JSONRules{}, deep(DefaultDepth))
	require.Equal(t, RuleDepth, ruleOfJSON(t, err))
	_, err = readJSON[fila](t, JSONRules{MaxDepth: 1}, `{}`)
	require.NoError(t, err)
}

// TestJSONNoAllocations: nothing per row, but for values that are memory of their own.
func TestJSONNoAllocations(t *testing.T) {
	type fila struct {
		evento
		D time.Duration
		F float32
		U uint8
		N sql.Null[string]
		T time.Time `leat:"fecha,time=2006-01-02"`
	}
	line := func(i int) string {
		return strings.TrimSuffix(eventLine(i), "}") + `, "desconocida" : [ 1, {"a":"\u0041"}],"d":5,"f":1.5,"u":255,"n":"texto","fecha":"2025-03-01"}`
	}
	var data []byte
	for i := range 100 {
		data = append(append(data, line(i)...), '\n')
	}
	d := NewJSONPlan(mustOf[fila](t), JSONRules{}).Decoder()
	rows := make([]fila, 100)
	if n := testing.AllocsPerRun(100, func() {
		at := 0
		for i := range rows {
			rows[i] = fila{}
			var err error
			if at, err = d.Line(data, at, unsafe.Pointer(&rows[i])); err != nil {
				t.Fatal(err)
			}
		}
	}); n > 2 { // a block of strings now and then
		t.Errorf("100 rows allocate %v times", n)
	}
}
