package leattest

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// dump writes a value with all that it points to, so that equal values have equal dumps
// and a dump shows what the value was, also when its memory is changed later. Times are
// equal when they are the same instant.
func dump(v any) string {
	var b strings.Builder
	dumpValue(&b, reflect.ValueOf(v), 0)
	return b.String()
}

func dumps[T any](rows []T) []string {
	out := make([]string, len(rows))
	for i := range rows {
		out[i] = dump(rows[i])
	}
	return out
}

func dumpValue(b *strings.Builder, v reflect.Value, depth int) {
	if depth > 50 {
		b.WriteString("…") // a ring
		return
	}
	if !v.IsValid() {
		b.WriteString("nil")
		return
	}
	if v.Type() == reflect.TypeFor[time.Time]() && v.CanInterface() {
		b.WriteString(v.Interface().(time.Time).UTC().Format(time.RFC3339Nano))
		return
	}
	switch v.Kind() {
	case reflect.String:
		b.WriteString(strconv.Quote(v.String()))
	case reflect.Bool:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		b.WriteString(strconv.FormatInt(v.Int(), 10))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		b.WriteString(strconv.FormatUint(v.Uint(), 10))
	case reflect.Float32, reflect.Float64:
		b.WriteString(strconv.FormatFloat(v.Float(), 'g', -1, 64))
	case reflect.Complex64, reflect.Complex128:
		fmt.Fprint(b, v.Complex())
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		if v.Kind() == reflect.Pointer {
			b.WriteByte('&')
		}
		dumpValue(b, v.Elem(), depth+1)
	case reflect.Slice, reflect.Array:
		if v.Kind() == reflect.Slice && v.IsNil() {
			b.WriteString("nil")
			return
		}
		if v.Type().Elem().Kind() == reflect.Uint8 && v.Kind() == reflect.Slice {
			b.WriteString(strconv.Quote(string(v.Bytes())))
			return
		}
		b.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				b.WriteByte(' ')
			}
			dumpValue(b, v.Index(i), depth+1)
		}
		b.WriteByte(']')
	case reflect.Map:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		var pairs []string
		for it := v.MapRange(); it.Next(); {
			var p strings.Builder
			dumpValue(&p, it.Key(), depth+1)
			p.WriteByte(':')
			dumpValue(&p, it.Value(), depth+1)
			pairs = append(pairs, p.String())
		}
		slices.Sort(pairs)
		b.WriteString("map[" + strings.Join(pairs, " ") + "]")
	case reflect.Struct:
		b.WriteByte('{')
		for i := range v.NumField() {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(v.Type().Field(i).Name + ":")
			dumpValue(b, v.Field(i), depth+1)
		}
		b.WriteByte('}')
	default: // a function, a channel
		if v.IsNil() {
			b.WriteString("nil")
		} else {
			b.WriteString(v.Type().String())
		}
	}
}

// differ tells where two lists part, or "".
func differ(got, want []string) string {
	n := 0
	for n < min(len(got), len(want)) && got[n] == want[n] {
		n++
	}
	if n == len(got) && n == len(want) {
		return ""
	}
	at := func(rows []string) string {
		if n < len(rows) {
			return rows[n]
		}
		return "nothing more"
	}
	return fmt.Sprintf("got %d, want %d; the first difference is at %d:\n got %s\nwant %s", len(got), len(want), n, at(got), at(want))
}

// compare counts what is missing from a list and what is there too often; nil and nil
// when both hold the same, in any order.
func compare(got, want []string) (lost, extra []string) {
	n := map[string]int{}
	for _, w := range want {
		n[w]++
	}
	for _, g := range got {
		if n[g]--; n[g] < 0 {
			extra = append(extra, g)
		}
	}
	for _, w := range want {
		if n[w] > 0 {
			n[w]--
			lost = append(lost, w)
		}
	}
	return lost, extra
}

// few shows the first of many.
func few(rows []string) string {
	const most = 5
	if len(rows) <= most {
		return strings.Join(rows, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(rows[:most], ", "), len(rows)-most)
}
