package sqlitesource

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/cursor"
	"github.com/leatgo/leat/internal/row"
)

// pseudo tells whether column i is a rowid that is no column, which only the reading needs.
func (s *shape) pseudo(i int) bool {
	return i >= len(s.columns) && s.exprs != nil && !strings.HasPrefix(s.exprs[i], `t."`)
}

// fillExtra gives the row's extra column what there is no other column for. NULLs are left
// out: a row without any has a nil map.
func (s *shape) fillExtra(p unsafe.Pointer, record []cursor.Value) error {
	at := s.extra.At(p)
	switch s.extra.Elem().Elem() {
	case reflect.TypeFor[string]():
		return fillMap(s, (*map[string]string)(at), record, func(v cursor.Value) string {
			switch v.Kind {
			case cursor.Int:
				return strconv.FormatInt(v.Int, 10)
			case cursor.Float:
				return strconv.FormatFloat(v.Float, 'g', -1, 64)
			case cursor.Blob:
				return string(v.AppendJSON(nil)) // so that it is told from a text
			}
			return v.Str
		})
	case reflect.TypeFor[json.RawMessage]():
		return fillMap(s, (*map[string]json.RawMessage)(at), record, func(v cursor.Value) json.RawMessage { return v.AppendJSON(nil) })
	}
	return fillMap(s, (*map[string]any)(at), record, func(v cursor.Value) any {
		switch v.Kind {
		case cursor.Text:
			return v.Str
		case cursor.Int, cursor.Float:
			if js := v.AppendJSON(nil); js[0] != '{' {
				return json.Number(js)
			}
		}
		return json.RawMessage(v.AppendJSON(nil))
	})
}

func fillMap[V any](s *shape, m *map[string]V, record []cursor.Value, form func(cursor.Value) V) error {
	others := s.others
	if s.own {
		// What a sink has written of an extra column is a JSON object.
		v := record[others[0]]
		others = others[1:]
		if v.Kind != cursor.Null && v.Str != "{}" {
			d := json.NewDecoder(strings.NewReader(v.Str))
			d.UseNumber()
			if err := d.Decode(m); err != nil || d.More() || v.Kind != cursor.Text {
				*m = nil
				return &leat.FieldError{Column: s.extra.Name, Rule: row.RuleSyntax, Msg: fmt.Sprintf("column %s: it is no JSON object of the values of a %v", s.extra.Name, s.extra.Type)}
			}
		}
	}
	for _, i := range others {
		v := record[i]
		if v.Kind == cursor.Null {
			continue
		}
		if v.Kind == cursor.Text && !utf8.ValidString(v.Str) {
			return &leat.FieldError{Column: s.extra.Name, Rule: "utf8", Msg: fmt.Sprintf("column %s: the text of column %s is not valid UTF-8, and so has no place in a JSON object", s.extra.Name, s.names[i])}
		}
		if *m == nil {
			*m = make(map[string]V, len(others))
		}
		(*m)[s.names[i]] = form(v)
	}
	return nil
}
