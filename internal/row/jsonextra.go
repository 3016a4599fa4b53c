package row

import (
	"encoding/json"
	"reflect"
	"unsafe"
)

// extraKind is the type of the column that keeps keys without a column.
type extraKind uint8

const (
	noExtra     extraKind = iota
	extraString           // map[string]string
	extraAny              // map[string]any
	extraRaw              // map[string]json.RawMessage
)

func extraKindOf(c *Column) extraKind {
	switch {
	case c == nil:
		return noExtra
	case c.Type.Elem() == reflect.TypeFor[string]():
		return extraString
	case c.Type.Elem() == reflect.TypeFor[json.RawMessage]():
		return extraRaw
	}
	return extraAny
}

// unknown reads the value of a key without a column.
func (d *JSONDecoder) unknown(i int, key int32, p unsafe.Pointer) int {
	refuse := d.plan.rules.Unknown == RefuseUnknown
	if d.plan.extra == nil && !refuse {
		return d.value(i, 1)
	}
	name := d.keys[key].name
	if key == int32(len(d.plan.steps)+1) {
		name = d.cells.keeper.keep(unsafe.String(unsafe.SliceData(d.name), len(d.name)))
	}
	if refuse {
		return d.fail(RuleUnknown, i, "there is no column for the key %q", cut(name, maxValue))
	}
	end := d.value(i, 1)
	if end < 0 {
		return -1
	}
	again := false
	f := unsafe.Add(p, d.plan.extra.offset)
	switch d.plan.extraKind {
	case extraString:
		text := ""
		if d.data[i] == '"' {
			text = d.cells.keeper.keep(d.text(i, end))
		} else {
			d.scratch = compact(d.scratch[:0], d.data[i:end])
			text = d.cells.keeper.keep(unsafe.String(unsafe.SliceData(d.scratch), len(d.scratch)))
		}
		again = put((*map[string]string)(f), name, text, d.plan.rules.Repeated)
	case extraRaw:
		raw := compact(make([]byte, 0, end-i), d.data[i:end])
		again = put((*map[string]json.RawMessage)(f), name, raw, d.plan.rules.Repeated)
	case extraAny:
		var v any
		if err := unmarshal(d.data[i:end], &v, true); err != nil {
			return d.fail(RuleSyntax, i, "%v", err)
		}
		again = put((*map[string]any)(f), name, v, d.plan.rules.Repeated)
	}
	if again {
		return d.fail(RuleDuplicate, i, "the key %q comes twice", cut(name, maxValue))
	}
	return end
}

// put adds to the map at m, which may be nil. It refuses what is there already if the
// policy does.
func put[V any](m *map[string]V, name string, v V, r JSONRepeated) (refused bool) {
	if *m == nil {
		*m = make(map[string]V)
	} else if _, is := (*m)[name]; is && r != LastRepeated {
		return r == RefuseRepeated
	}
	(*m)[name] = v
	return false
}

// extra reads the value of the extra column's own key, as AppendJSON has written it.
// What it holds lies beside the keys without a column.
func (d *JSONDecoder) extra(s *jsonStep, i int, q unsafe.Pointer) int {
	r := d.plan.rules.Repeated
	switch d.plan.extraKind {
	case extraString:
		return extraOf[string](d, s, i, (*map[string]string)(q), r)
	case extraRaw:
		return extraOf[json.RawMessage](d, s, i, (*map[string]json.RawMessage)(q), r)
	}
	return extraOf[any](d, s, i, (*map[string]any)(q), r)
}

func extraOf[V any](d *JSONDecoder, s *jsonStep, i int, m *map[string]V, r JSONRepeated) int {
	var own map[string]V
	end := d.own(s, i, unsafe.Pointer(&own))
	if end < 0 || len(own) == 0 {
		return end
	}
	if *m == nil {
		*m = own
		return end
	}
	for name, v := range own {
		if put(m, name, v, r) {
			return d.fail(RuleDuplicate, i, "the key %q comes twice: in the object, and in its %q", cut(name, maxValue), cut(s.column.Name, maxValue))
		}
	}
	return end
}
