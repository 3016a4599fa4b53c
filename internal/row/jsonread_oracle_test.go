package row

import (
	"bytes"
	"database/sql"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
)

// ofAll has a column of each kind.
type ofAll struct {
	B   bool
	I   int64
	I8  int8
	U   uint64
	U16 uint16
	F   float64
	F32 float32
	S   string
	S2  string `leat:"un nombre más largo que dieciséis"`
	By  []byte
	D   time.Duration
	T   time.Time
	TC  time.Time `leat:"tc,time=2006-01-02 15:04:05"`
	TD  time.Time `leat:"td,time=2006-01-02"`
	TX  time.Time `leat:"tx,time=02.01.06"`
	P   *int64
	PB  *bool
	PT  *time.Time
	NS  sql.Null[string]
	NI  sql.NullInt32
	Dec decimal.Decimal
	PD  *decimal.Decimal
	Big big.Int
	Net netip.Addr
	DS  string `leat:"ds,decimal=18.2"`
	Raw json.RawMessage
	Sl  []string
	M   map[string]any
	Any any
	St  struct{ A, B int }
	Mas map[string]string `leat:"mas,extra"`
}

// oracle reads a text by encoding/json's tokens: slow, and obviously right.
func oracle[T any](t *Type, rules JSONRules, text []byte) (row T, err error) {
	if !json.Valid(text) || !utf8.Valid(text) {
		return row, errors.New("no JSON")
	}
	if halfPair(text) {
		return row, errors.New("half a pair")
	}
	if depthOf(text) > rules.MaxDepth {
		return row, errors.New("too deep")
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	if tok, err := dec.Token(); err != nil || tok != json.Delim('{') {
		return row, errors.New("no object")
	}
	v := reflect.ValueOf(&row).Elem()
	seen := map[string]bool{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return row, err
		}
		name := tok.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return row, err
		}
		c := t.Column(name)
		if c == nil {
			if rules.Unknown == RefuseUnknown {
				return row, errors.New("unknown")
			}
			if t.Extra() == nil {
				continue
			}
		}
		if c == nil || c.Extra {
			if c != nil && seen[name] && rules.Repeated != LastRepeated {
				if rules.Repeated == RefuseRepeated {
					return row, errors.New("twice")
				}
				continue
			}
			seen[name] = true
			more := map[string]json.RawMessage{name: raw}
			if c != nil {
				more = nil
				if err := json.Unmarshal(raw, &more); err != nil {
					return row, err
				}
			}
			for k, raw := range more {
				if err := oracleExtra(v.FieldByName("Mas"), rules, k, raw, c != nil); err != nil {
					return row, err
				}
			}
			continue
		}
		if seen[name] {
			switch rules.Repeated {
			case RefuseRepeated:
				return row, errors.New("twice")
			case FirstRepeated:
				continue
			}
		}
		seen[name] = true
		field := fieldAt(v, c)
		field.SetZero()
		if err := oracleValue(c, field, raw); err != nil {
			return row, err
		}
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		nullable := c.Null || c.Name == "raw" || c.Name == "sl" || c.Name == "m" || c.Name == "any"
		if !seen[c.Name] && !c.Extra && (rules.Missing == RefuseMissing || rules.Missing == NullMissing && !nullable) {
			return row, errors.New("missing " + c.Name)
		}
	}
	return row, nil
}

// oracleExtra puts one key into the extra column.
func oracleExtra(m reflect.Value, rules JSONRules, name string, raw json.RawMessage, inMap bool) error {
	var s string
	switch err := json.Unmarshal(raw, &s); {
	case err == nil && raw[0] == '"':
	case inMap && string(raw) == "null": // as encoding/json has it in a map[string]string
	case inMap:
		return errors.New("no string")
	default:
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			return err
		}
		s = b.String()
	}
	if m.IsNil() {
		m.Set(reflect.ValueOf(map[string]string{}))
	}
	key := reflect.ValueOf(name)
	if m.MapIndex(key).IsValid() && rules.Repeated != LastRepeated {
		if rules.Repeated == RefuseRepeated {
			return errors.New("twice")
		}
		return nil
	}
	m.SetMapIndex(key, reflect.ValueOf(s))
	return nil
}

func fieldAt(v reflect.Value, c *Column) reflect.Value {
	return reflect.NewAt(c.Type, unsafe.Add(v.Addr().UnsafePointer(), c.offset)).Elem()
}

func oracleValue(c *Column, field reflect.Value, raw json.RawMessage) error {
	if string(raw) == "null" {
		switch {
		case c.Null:
			return nil
		case c.Name == "raw":
			field.SetBytes([]byte("null"))
			return nil
		case field.Kind() == reflect.Map, field.Kind() == reflect.Slice && c.Kind == Other, field.Kind() == reflect.Interface:
			return nil
		}
		return errors.New("null")
	}
	q := field
	switch c.null {
	case nullPtr:
		field.Set(reflect.New(c.elem))
		q = field.Elem()
	case nullSQL:
		field.Field(1).SetBool(true)
		q = field.Field(0)
	}
	text, isText := "", raw[0] == '"'
	if isText {
		if err := json.Unmarshal(raw, &text); err != nil {
			return err
		}
	}
	isNumber := raw[0] == '-' || raw[0]-'0' <= 9
	_, unmarshals := q.Addr().Interface().(json.Unmarshaler)
	switch {
	case c.Kind == Time:
		if !isText {
			return errors.New("no text")
		}
		at, err := c.parseTime(text)
		q.Set(reflect.ValueOf(at))
		return err
	case unmarshals || c.Kind == Other:
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		return dec.Decode(q.Addr().Interface())
	case c.Kind == Text && isNumber:
		return q.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText(raw)
	case c.Kind == Text:
		if !isText {
			return errors.New("no text")
		}
		return q.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text))
	case c.Precision != 0 && isNumber:
		q.SetString(string(raw))
		return nil
	case c.Kind == Bytes && !isText:
		return errors.New("no text")
	}
	return json.Unmarshal(raw, q.Addr().Interface())
}

func depthOf(text []byte) int {
	depth, most := 0, 0
	outside(text, func(c byte) {
		switch c {
		case '{', '[':
			depth++
			most = max(most, depth)
		case '}', ']':
			depth--
		}
	})
	return most
}

// outside calls f for each byte outside of strings.
func outside(text []byte, f func(c byte)) {
	in := false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case in && c == '\\':
			i++
		case c == '"':
			in = !in
		case !in:
			f(c)
		}
	}
}

// halfPair looks for surrogates alone.
func halfPair(text []byte) bool {
	s := string(text)
	for s != "" {
		i := strings.IndexByte(s, '\\')
		if i < 0 {
			return false
		}
		s = s[i+1:]
		if s[0] != 'u' {
			s = s[1:]
			continue
		}
		var u, low rune
		_, err := fmt.Sscanf(s[1:5], "%04x", &u)
		if err != nil {
			return true
		}
		s = s[5:]
		switch {
		case u >= 0xdc00 && u <= 0xdfff:
			return true
		case u >= 0xd800 && u <= 0xdbff:
			if !strings.HasPrefix(s, `\u`) {
				return true
			}
			if _, err := fmt.Sscanf(s[2:6], "%04x", &low); err != nil || low < 0xdc00 || low > 0xdfff {
				return true
			}
			s = s[6:]
		}
	}
	return false
}

var allRules = []string{RuleSyntax, RuleUTF8, RuleDepth, RuleDuplicate, RuleUnknown, RuleMissing, RuleNull, RuleType, RuleRange}

// checkJSON compares what the decoder makes of a text with the oracle, in all ways that
// a text can come.
func checkJSON[T any](t *testing.T, rules JSONRules, text []byte) {
	t.Helper()
	rt := mustOf[T](t)
	d := NewJSONPlan(rt, rules).Decoder()
	defer d.Release()
	if rules.MaxDepth == 0 {
		rules.MaxDepth = DefaultDepth
	}
	check := func(how string, part []byte, got *T, err error) {
		t.Helper()
		want, wantErr := oracle[T](rt, rules, part)
		if wantErr != nil {
			require.Error(t, err, "%s: %q: the oracle refuses it: %v", how, part, wantErr)
			e, is := errors.AsType[*JSONError](err)
			require.True(t, is, "%s: %q: %T", how, part, err)
			require.Contains(t, allRules, e.Rule(), "%s: %q", how, part)
			require.GreaterOrEqual(t, e.Byte, 1, "%s: %q", how, part)
			require.LessOrEqual(t, e.Byte, len(part)+1, "%s: %q: %v", how, part, err)
			require.NotContains(t, err.Error(), "\n", "%s: %q", how, part)
			return
		}
		require.NoError(t, err, "%s: %q", how, part)
		require.Equal(t, want, *got, "%s: %q", how, part)
	}

	for range 2 { // the second time it knows the order of the keys
		var got T
		err := d.Text(bytes.Clone(text), unsafe.Pointer(&got))
		check("text", text, &got, err)
	}

	line, _, _ := bytes.Cut(text, []byte("\n"))
	before, behind := "x\n", "\n"+strings.Repeat(`{"i":7,"s":"lo que sigue"}`+"\n", 4)
	data := []byte(before + string(line) + behind)
	for range 2 {
		var got T
		next, err := d.Line(data, len(before), unsafe.Pointer(&got))
		scrub := bytes.Repeat([]byte{'#'}, len(data))
		copy(scrub, data)
		require.Equal(t, len(before)+len(line)+1, next, "%q", line)
		for i := range data {
			data[i] = '#' // nothing of the row may share memory with it
		}
		check("line", line, &got, err)
		copy(data, scrub)
	}
	var got T
	next, err := d.Line(data[:len(before)+len(line)], len(before), unsafe.Pointer(&got))
	require.Equal(t, len(before)+len(line), next, "%q", line)
	check("last line", line, &got, err)
}

// few has no column for most.
type few struct {
	I  int64
	S  string
	F  *float64
	T  time.Time
	M  map[string]any
	PB *bool
}

func checkBoth(t *testing.T, rules JSONRules, text []byte) {
	t.Helper()
	checkJSON[ofAll](t, rules, text)
	checkJSON[few](t, rules, text)
}

func rulesOf(b byte) JSONRules {
	r := JSONRules{
		Unknown: JSONUnknown(b & 1), Repeated: JSONRepeated(b >> 1 & 3 % 3), Missing: ZeroMissing, MaxDepth: 6,
	}
	switch b >> 4 & 7 {
	case 1:
		r.Missing = NullMissing
	case 2:
		r.Missing = RefuseMissing
	}
	return r
}

// FuzzJSON compares the decoder with encoding/json.
func FuzzJSON(f *testing.F) {
	for _, s := range jsonSeeds {
		f.Add([]byte(s), byte(0))
		f.Add([]byte(s), byte(13))
	}
	f.Fuzz(func(t *testing.T, text []byte, rules byte) {
		if len(text) > 1<<16 {
			return
		}
		checkBoth(t, rulesOf(rules), text)
	})
}

// wholeRow has all columns.
const wholeRow = `{"b":true,"i":-9223372036854775808,"i8":-128,"u":18446744073709551615,"u16":65535,"f":-1.5,"f32":0.1,"s":"sí","un nombre más largo que dieciséis":"x",` +
	`"by":"AAEC","d":1500000000,"t":"2025-03-01T10:11:12.123456789Z","tc":"2025-03-01 10:11:12","td":"2025-03-01","tx":"31.12.25","p":5,"pb":false,"pt":"2025-03-01",` +
	`"ns":"","ni":-7,"dec":"12.50","pd":1.25,"big":123456789012345678901234567890,"net":"10.0.0.1","ds":12.50,"raw":{"a": [1, 2]},"sl":["a"],"m":{"k":9007199254740993},` +
	`"any":[1.0,null],"st":{"A":1,"B":2},"mas":{"k":"v"}}`

var jsonSeeds = []string{
	wholeRow,
	`{}`, ``, ` `, `{`, `[]`, `null`, `"x"`, `1`, ` { } `, `{}x`, `{},`, `{"i":1}{"i":1}`,
	`{"i":1,"s":"a"}`, `{ "i" : 1 , "s" : "a" }`, `{"i": 1, "s": "a", "f": 2.5}`, "{\"i\":1,\n\"s\":\"a\"}", "{\t\"i\":\r1}",
	`{"i":1,"i":2}`, `{"i":1,"\u0069":2}`, `{"zz":1,"zz":2}`, `{"zz":1,"\u007az":"x"}`, `{"m":{"a":1},"m":{"b":2}}`, `{"p":1,"p":null}`, `{"p":null,"p":1}`,
	`{"i":1.0}`, `{"i":1e3}`, `{"i":9223372036854775807}`, `{"i":9223372036854775808}`, `{"i":9007199254740993}`, `{"i":-0}`, `{"i":01}`, `{"i":-}`, `{"i":+1}`, `{"i":1x}`,
	`{"i8":127}`, `{"i8":128}`, `{"i8":-129}`, `{"u":-0}`, `{"u":-1}`, `{"u":18446744073709551616}`, `{"u16":65536}`, `{"u":00}`, `{"i":"1"}`, `{"i":true}`, `{"i":{}}`, `{"i":[1]}`, `{"i":null}`,
	`{"f":1.}`, `{"f":.5}`, `{"f":-.5}`, `{"f":01.5}`, `{"f":-0}`, `{"f":-0.0}`, `{"f":1e400}`, `{"f":1e-400}`, `{"f":0.1e1}`, `{"f":1E+2}`, `{"f":1e}`, `{"f":123456789.123456789}`, `{"f":5e-324}`, `{"f":9007199254740993}`,
	`{"f32":16777217}`, `{"f32":1e39}`, `{"f32":0.3}`, `{"f":NaN}`, `{"f":Infinity}`, `{"f":"1"}`,
	`{"s":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}`, `{"s":"\ud83d"}`, `{"s":"\ude00\ud83d"}`, `{"s":"\ud83d\u0041"}`, `{"s":"\uD83D\uDE00"}`, `{"s":"\ud83dxude00"}`, `{"s":"\ud83d\xde00"}`, `{"s":"\x"}`, `{"s":"\u12"}`, `{"s":"\u12G4"}`,
	"{\"s\":\"a\x01b\"}", "{\"s\":\"a\tb\"}", "{\"s\":\"a\nb\"}", "{\"s\":\"a\x7fb\"}", "{\"s\":\"\xff\"}", "{\"s\":\"\xc3\"}", "{\"s\":\"\xed\xa0\x80\"}", "{\"\xff\":1}", "{\"zz\":\"\xff\"}", `{"s":"日本語のテキスト、とても長い"}`,
	`{"s":1}`, `{"s":null}`, `{"s":"x}`, `{"s":"` + strings.Repeat("larga ", 40) + `"}`, `{"s":"\u0000"}`,
	`{"by":"AAEC"}`, `{"by":"AAE"}`, `{"by":"*"}`, `{"by":""}`, `{"by":[1]}`, `{"by":null}`, `{"by":"AA\nEC"}`,
	`{"d":1.5}`, `{"d":"1h"}`, `{"d":5}`, `{"t":"2025-02-30T00:00:00Z"}`, `{"t":"2025-02-03T04:05:06+02:00"}`, `{"t":""}`, `{"t":5}`, `{"t":"2025-02-03"}`, `{"t":"2025-02-03 04:05:06.5"}`, `{"tc":"2025-02-03T04:05:06"}`, `{"td":"2025-02-03 "}`, `{"tx":"1.1.25"}`,
	`{"t":"2025-02-03T04:05:06\u005a"}`,
	`{"dec":12.50}`, `{"dec":"x"}`, `{"dec":null}`, `{"dec":1e5}`, `{"pd":null}`, `{"ds":"12.50"}`, `{"ds":1.50e1}`, `{"ds":null}`, `{"net":"x"}`, `{"net":7}`, `{"net":""}`,
	`{"raw":null}`, `{"raw":[1,{"a":"\u00e9"}]}`, `{"sl":null}`, `{"sl":{}}`, `{"sl":[1]}`, `{"any":1}`, `{"any":null}`, `{"st":null}`, `{"st":{"a":1}}`, `{"st":{"A":"x"}}`,
	`{"zz":[[[[[1]]]]]}`, `{"zz":[[[[[[1]]]]]]}`, `{"any":[[[[[[1]]]]]]}`, `{"zz":[1,]}`, `{"zz":[,1]}`, `{"zz":{"a":1,}}`, `{"zz":{"a"}}`, `{"zz":{"a":}}`, `{"zz":{1:2}}`, `{"zz":[1 2]}`, `{"zz":tru}`, `{"zz":nul}`, `{"zz":[}`, `{"zz":{]}`,
	`{"b":true,}`, `{,"b":true}`, `{"b" true}`, `{"b":}`, `{"b":truex}`, `{"b":1}`, `{"b":"true"}`, `{"b":False}`, `{b:true}`, `{'b':true}`, `{"b":true/**/}`, "\xef\xbb\xbf{}", `{"B":true}`, `{"I":1}`,
	`{"mas":{"a":"b"},"zz":1}`, `{"zz":1,"mas":{"a":"b"}}`, `{"mas":null,"zz":{ "a" : [ 1 , "x y" ] }}`, `{"zz":"te\u0078to"}`, `{"a":"x","mas":{"a":"y"}}`, `{"mas":{"a":"y"},"a":"x"}`,
}

func TestJSONAgainstEncodingJSON(t *testing.T) {
	t.Parallel()
	rt := mustOf[ofAll](t)
	for _, s := range jsonSeeds {
		for _, b := range []byte{0, 1, 2, 3, 4, 8, 10, 12, 16, 32} {
			checkBoth(t, rulesOf(b), []byte(s))
		}
		// Bytes at the end of a text, and so far from it that the quick way is taken.
		for cut := range s {
			if len(s) < 400 || cut%7 == 0 {
				checkBoth(t, rulesOf(0), []byte(s[:cut]))
			}
		}
	}
	var got ofAll
	require.NoError(t, NewJSONPlan(rt, JSONRules{Missing: RefuseMissing}).Decoder().Text([]byte(wholeRow), unsafe.Pointer(&got)))
	require.Equal(t, uint64(18446744073709551615), got.U)
	require.Equal(t, map[string]any{"k": json.Number("9007199254740993")}, got.M)
}
