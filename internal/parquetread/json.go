package parquetread

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"reflect"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/row"
)

// A row as the file has it, before any conversion, is one JSON object of the columns that
// were read. What JSON has no form for is an object with one member, so that SetJSON
// makes exactly the same of it as Fill did of the file:
//
//	bytes, and texts that are no UTF-8    {"base64":"/w=="}
//	UUID                                  {"uuid":"…"}
//	timestamps beyond the years 1 to 9999 {"raw":9223372036854775807}
//	NaN and the infinities                {"float":"NaN"}
//	FLOATs whose text is another DOUBLE   {"float":"0.1"}; in columns that fields are read from
//
// Decimals and times are strings.

// AppendJSON appends record i of the piece. For many see Letters.
func (p *Plan) AppendJSON(dst []byte, piece *Piece, i int) []byte {
	return p.Letters(piece).AppendJSON(dst, i)
}

// Letters writes records of a piece in one walk, if they are asked for in ascending order.
type Letters struct {
	plan  *Plan
	piece *Piece
	cells []cells // by input
	at    int     // the record that is next in all of them
}

// Letters begins a walk.
func (p *Plan) Letters(piece *Piece) *Letters { return &Letters{plan: p, piece: piece} }

// AppendJSON appends record i.
func (l *Letters) AppendJSON(dst []byte, i int) []byte {
	if l.cells == nil || i < l.at {
		l.cells, l.at = make([]cells, len(l.plan.inputs)), 0
		for k, column := range l.plan.inputs {
			l.cells[k] = cells{column, cursor{segments: l.piece.Columns[k]}, !slices.Contains(l.plan.extras, k)}
		}
	}
	dst = append(dst, '{')
	for k, column := range l.plan.inputs {
		if k > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, column.Name), ':')
		c := &l.cells[k]
		for range i - l.at {
			c.next(nil, false)
		}
		dst = c.next(dst, true)
	}
	for k, name := range l.plan.nulls {
		if k > 0 || len(l.plan.inputs) > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendString(dst, name), ":null"...)
	}
	l.at = i + 1
	return append(dst, '}')
}

// cells walks over the rows of a column.
type cells struct {
	column *Column
	cursor
	exact bool // values are for SetJSON, not for people
}

// next passes over a row, and appends its value if write is set.
func (c *cells) next(dst []byte, write bool) []byte {
	for len(c.segments) > 0 && c.row == c.segments[0].Rows {
		c.cursor = cursor{segments: c.segments[1:]}
	}
	if len(c.segments) == 0 {
		return append(dst, "null"...)
	}
	s, i, t := &c.segments[0], c.row, &c.column.typ
	c.row++
	there := s.Lens == nil && (s.Valid == nil || s.Valid[i]) || s.Lens != nil && s.Lens[i] >= 0
	switch {
	case !there:
		if write {
			dst = append(dst, "null"...)
		}
	case s.Lens == nil:
		if write {
			dst = appendJSON(dst, t, &s.Values, c.value, c.exact)
		}
		c.value++
	default:
		if write {
			dst = append(dst, '[')
		}
		for k := range int(s.Lens[i]) {
			if write && k > 0 {
				dst = append(dst, ',')
			}
			c.elem++
			if s.Elems != nil && !s.Elems[c.elem-1] {
				if write {
					dst = append(dst, "null"...)
				}
				continue
			}
			if write {
				dst = appendJSON(dst, t, &s.Values, c.value, c.exact)
			}
			c.value++
		}
		if write {
			dst = append(dst, ']')
		}
	}
	return dst
}

func appendJSON(dst []byte, t *leafType, v *Values, i int, exact bool) []byte {
	special := func(key string, b []byte) []byte {
		dst = append(dst, `{"`+key+`":"`...)
		if key == "base64" {
			dst = base64.StdEncoding.AppendEncode(dst, b)
		} else {
			dst = append(dst, b...)
		}
		return append(dst, `"}`...)
	}
	text, err := appendText(nil, t, v, i)
	switch t.meaning {
	case isBool, isInt, isUint, isNull:
		return append(dst, text...)
	case isFloat, isDouble, isFloat16:
		if s := string(text); s == "NaN" || s == "+Inf" || s == "-Inf" {
			return special("float", text)
		}
		if t.meaning != isDouble && exact {
			if x, _ := strconv.ParseFloat(string(text), 64); x != float64(float32(x)) {
				return special("float", text)
			}
		}
		return append(dst, text...)
	case isUUID:
		return special("uuid", text)
	case isString:
		if err != nil {
			return special("base64", v.Bytes(i))
		}
		return appendString(dst, string(text))
	case isDecimal, isDate, isTimestamp, isTime:
		switch {
		case err == nil:
			return appendString(dst, string(text))
		case v.Int32s != nil:
			return append(strconv.AppendInt(append(dst, `{"raw":`...), int64(v.Int32s[i]), 10), '}')
		case v.Int64s != nil:
			return append(strconv.AppendInt(append(dst, `{"raw":`...), v.Int64s[i], 10), '}')
		}
		return special("base64", v.Bytes(i))
	case isInt96:
		if err == nil {
			return appendString(dst, string(text))
		}
	}
	return special("base64", v.Bytes(i))
}

func appendString(dst []byte, s string) []byte {
	b, err := json.Marshal(s)
	if err != nil { // it is a string
		return append(dst, `""`...)
	}
	return append(dst, b...)
}

// ErrLetter is in the errors of SetJSON that are not about a value: the bytes are not what
// AppendJSON writes.
var ErrLetter = errors.New("its bytes are not a row as this source writes it")

// SetJSON sets the row at p, which is zero, from what AppendJSON wrote.
func SetJSON(t *row.Type, drift Drift, raw []byte, p unsafe.Pointer) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	var members map[string]json.RawMessage
	if err := d.Decode(&members); err != nil || members == nil {
		return fmt.Errorf("%w: it is no JSON object", ErrLetter)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%w: there is more than one JSON object", ErrLetter)
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		if c.Extra {
			continue
		}
		f := fieldPlan{c: c}
		value, ok := members[c.Name]
		if !ok {
			if drift.missing(c) {
				return fmt.Errorf("%w: it has no column %s", ErrLetter, c.Name)
			}
			continue
		}
		delete(members, c.Name)
		if string(value) == "null" {
			if !c.Null && !isSlice(c) {
				return f.null()
			}
			continue
		}
		if err := f.setJSON(p, value); err != nil {
			return f.fault(err)
		}
	}
	if c := t.Extra(); c != nil && len(members) > 0 {
		m := newExtra(c.Type, len(members))
		for name, value := range members {
			m.set(name, value)
		}
		m.store(c.Make(p))
	}
	return nil
}

func (p *fieldPlan) setJSON(r unsafe.Pointer, value json.RawMessage) (err error) {
	typ := p.c.Elem()
	if !isSlice(p.c) {
		defer func() {
			if v := recover(); v != nil { // rule A9: a user's UnmarshalText
				err = &row.Refusal{Column: p.c.Name, Rule: "panic", Err: &engine.PanicError{Value: v, Stack: debug.Stack()}}
			}
		}()
		return setScalar(p.c.Kind, p.c.Bits, typ, p.c.Make(r), value)
	}
	var elems []json.RawMessage
	if json.Unmarshal(value, &elems) != nil {
		return &refusal{rule: row.RuleType, msg: "it is no list"}
	}
	list := reflect.MakeSlice(typ, len(elems), len(elems))
	elem := typ.Elem()
	for i, e := range elems {
		q, et := list.Index(i).Addr().UnsafePointer(), elem
		if elem.Kind() == reflect.Pointer {
			if string(e) == "null" {
				continue
			}
			et = elem.Elem()
			v := reflect.New(et)
			list.Index(i).Set(v)
			q = v.UnsafePointer()
		} else if string(e) == "null" {
			return &refusal{rule: RuleNull, msg: fmt.Sprintf("an element of the list is null, and %v can't be", elem)}
		}
		kind, bits := row.KindOf(et)
		if err := setScalar(kind, bits, et, q, e); err != nil {
			return err
		}
	}
	reflect.NewAt(typ, p.c.Make(r)).Elem().Set(list)
	return nil
}

// cell is a JSON value as AppendJSON writes it.
type cell struct {
	text   string // of a string, number or bool, or in the member of an object
	kind   byte   // '"' string, '0' number, 't' bool, 'b' bytes, 'u' uuid, 'r' raw, 'f' float
	binary []byte
}

func parseCell(value json.RawMessage) (c cell, err error) {
	bad := &refusal{rule: row.RuleType, msg: "it is of another JSON type"}
	if len(value) == 0 {
		return c, bad
	}
	switch value[0] {
	case '"':
		c.kind = '"'
		err = json.Unmarshal(value, &c.text)
	case 't', 'f':
		c.kind, c.text = 't', string(value)
	case '{':
		var m map[string]json.RawMessage
		if json.Unmarshal(value, &m) != nil || len(m) != 1 {
			return c, bad
		}
		for key, v := range m {
			switch key {
			case "base64":
				c.kind = 'b'
				err = json.Unmarshal(v, &c.binary)
				c.text = string(c.binary)
			case "uuid":
				c.kind = 'u'
				if err = json.Unmarshal(v, &c.text); err == nil {
					c.binary, err = hex.DecodeString(strings.ReplaceAll(c.text, "-", ""))
				}
			case "float":
				c.kind = 'f'
				err = json.Unmarshal(v, &c.text)
			case "raw":
				c.kind, c.text = 'r', string(v)
			default:
				return c, bad
			}
		}
	case '[':
		return c, bad
	default:
		c.kind, c.text = '0', string(value)
	}
	if err != nil {
		return c, bad
	}
	return c, nil
}

// setScalar sets a value of this kind at q.
func setScalar(kind row.Kind, bits int, typ reflect.Type, q unsafe.Pointer, value json.RawMessage) error {
	c, err := parseCell(value)
	if err != nil {
		return err
	}
	misfit := &refusal{rule: row.RuleType, msg: fmt.Sprintf("%s is no %v", quote(c.text), typ)}
	number := func(err error) error {
		if errors.Is(err, strconv.ErrRange) {
			return outOfRange(cutNumber(c.text), typ)
		}
		return &refusal{rule: row.RuleSyntax, msg: fmt.Sprintf("%s is no %v", quote(c.text), typ)}
	}
	v := reflect.NewAt(typ, q).Elem()
	switch kind {
	case row.Bool:
		if c.kind != 't' {
			return misfit
		}
		v.SetBool(c.text == "true")
	case row.Int:
		x, err := strconv.ParseInt(wholeText(c), 10, bits)
		if err != nil {
			return number(err)
		}
		v.SetInt(x)
	case row.Uint:
		if strings.HasPrefix(c.text, "-") {
			return outOfRange(cutNumber(c.text), typ)
		}
		x, err := strconv.ParseUint(wholeText(c), 10, bits)
		if err != nil {
			return number(err)
		}
		v.SetUint(x)
	case row.Duration:
		if c.kind == '"' {
			if c.text == endOfDay {
				*(*int64)(q) = 24 * int64(time.Hour)
				return nil
			}
			at, err := time.Parse("15:04:05.999999999", c.text)
			if err != nil {
				return misfit
			}
			*(*int64)(q) = int64(at.Sub(time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)))
			return nil
		}
		x, err := strconv.ParseInt(c.text, 10, 64)
		if err != nil {
			return number(err)
		}
		*(*int64)(q) = x
	case row.Float:
		stored := bits
		if c.kind == 'f' {
			stored = 32
		}
		x, err := strconv.ParseFloat(c.text, stored)
		if err != nil || c.kind != 'f' && c.kind != '0' && c.kind != '"' {
			return number(err)
		}
		if n, whole := new(big.Int).SetString(c.text, 10); c.kind == '0' && whole {
			if f, exact := new(big.Float).SetInt(n).Float64(); exact != big.Exact || bits == 32 && float64(float32(f)) != f && math.Abs(f) < 1<<62 {
				return outOfRange(cutNumber(c.text), typ)
			}
		}
		v.SetFloat(x)
	case row.String:
		switch c.kind {
		case '"', 'u':
		case 'b':
			if !validText(c.binary) {
				return errNotUTF8
			}
		default:
			return misfit
		}
		v.SetString(c.text)
	case row.Bytes:
		switch c.kind {
		case '"':
			c.binary = []byte(c.text)
		case 'b', 'u':
		default:
			return misfit
		}
		v.SetBytes(append([]byte{}, c.binary...))
	case row.Time:
		if c.kind == 'r' {
			return &refusal{rule: row.RuleRange, msg: "its year is outside 1 to 9999"}
		}
		at, err := time.ParseInLocation(time.RFC3339Nano, c.text, time.UTC)
		if err != nil {
			at, err = time.ParseInLocation(time.DateOnly, c.text, time.UTC)
		}
		if err != nil || c.kind != '"' {
			return misfit
		}
		*(*time.Time)(q) = at.UTC()
	case row.Text:
		switch c.kind {
		case 'r':
			return &refusal{rule: row.RuleRange, msg: "its year is outside 1 to 9999"}
		case 'b':
			c.text = string(c.binary)
		}
		u, ok := reflect.NewAt(typ, q).Interface().(encoding.TextUnmarshaler)
		if !ok {
			return misfit
		}
		if err := u.UnmarshalText([]byte(c.text)); err != nil {
			return &refusal{rule: row.RuleSyntax, msg: fmt.Sprintf("%s is not a %v", quote(c.text), typ), err: err}
		}
	default:
		return misfit
	}
	return nil
}

// wholeText is the text of a whole number, also of one that was a DOUBLE (1e+06).
func wholeText(c cell) string {
	if c.kind != '0' || !strings.ContainsAny(c.text, "e.") {
		return c.text
	}
	x, err := strconv.ParseFloat(c.text, 64)
	if err != nil || x != math.Trunc(x) || math.Abs(x) > 1<<53 {
		return c.text
	}
	return strconv.FormatFloat(x, 'f', -1, 64)
}

// extra is the map of a column tagged `extra`.
type extra struct {
	texts map[string]string
	any   map[string]any
	raw   map[string]json.RawMessage
}

func newExtra(typ reflect.Type, n int) (m extra) {
	switch typ.Elem() {
	case reflect.TypeFor[string]():
		m.texts = make(map[string]string, n)
	case reflect.TypeFor[any]():
		m.any = make(map[string]any, n)
	default:
		m.raw = make(map[string]json.RawMessage, n)
	}
	return m
}

// set keeps a value as AppendJSON writes it. A null is left out of a map of strings.
func (m *extra) set(name string, value json.RawMessage) {
	switch {
	case m.raw != nil:
		m.raw[name] = append(json.RawMessage(nil), value...)
	case m.any != nil:
		m.any[name] = anyOf(value)
	case value[0] == '[' || string(value) == "null":
		if value[0] == '[' {
			m.texts[name] = string(value)
		}
	default:
		if c, err := parseCell(value); err == nil {
			switch c.kind {
			case 'b': // any bytes: as JSON shows them
				if !validText(c.binary) {
					c.text = base64.StdEncoding.EncodeToString(c.binary)
				}
			}
			m.texts[name] = c.text
		}
	}
}

func (m *extra) store(q unsafe.Pointer) {
	switch {
	case m.texts != nil:
		*(*map[string]string)(q) = m.texts
	case m.any != nil:
		*(*map[string]any)(q) = m.any
	default:
		*(*map[string]json.RawMessage)(q) = m.raw
	}
}

// anyOf gives a value in Go's own types: whole numbers as int64, or uint64 where they
// need it, bytes as []byte.
func anyOf(value json.RawMessage) any {
	switch {
	case string(value) == "null":
		return nil
	case value[0] == '[':
		var elems []json.RawMessage
		if json.Unmarshal(value, &elems) != nil {
			return nil
		}
		out := make([]any, len(elems))
		for i, e := range elems {
			out[i] = anyOf(e)
		}
		return out
	}
	c, err := parseCell(value)
	if err != nil {
		return nil
	}
	switch c.kind {
	case 't':
		return c.text == "true"
	case '0', 'r':
		if x, err := strconv.ParseInt(c.text, 10, 64); err == nil {
			return x
		}
		if x, err := strconv.ParseUint(c.text, 10, 64); err == nil {
			return x
		}
		fallthrough
	case 'f':
		x, err := strconv.ParseFloat(c.text, 64)
		if err == nil && (math.IsNaN(x) || math.IsInf(x, 0)) { // no JSON form
			return c.text
		}
		return x
	case 'b':
		if validText(c.binary) {
			return c.text
		}
		return c.binary
	}
	return c.text
}

// fillExtra gives each row of the piece the map of what the row type has no column for.
func (p *Plan) fillExtra(piece *Piece, base unsafe.Pointer, stride uintptr) {
	columns := make([]cells, len(p.extras))
	for j, k := range p.extras {
		columns[j] = cells{p.inputs[k], cursor{segments: piece.Columns[k]}, false}
	}
	var buf []byte
	for i := range piece.Rows {
		m := newExtra(p.extra.Type, len(p.extras))
		for j := range columns {
			buf = columns[j].next(buf[:0], true)
			m.set(columns[j].column.Name, buf)
		}
		m.store(p.extra.Make(unsafe.Add(base, uintptr(i)*stride)))
	}
}
