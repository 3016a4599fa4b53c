package row

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// tag is what a field's struct tag says about its column.
type tag struct {
	name   string
	named  bool // the name was written down, not made from the field's
	skip   bool
	key    bool
	extra  bool
	layout string
	origin bool

	precision, scale int // of decimal=; 0 without it
}

// parseTag reads the leat and json tags of f. The name is set even when there is an error.
func parseTag(f reflect.StructField) (tag, error) {
	var t tag
	js, hasJSON := f.Tag.Lookup("json")
	text, ok := f.Tag.Lookup("leat")
	name, options, more := strings.Cut(text, ",")
	switch {
	case ok && name == "-" && !more:
		t.skip = true
		return t, nil
	case ok && name != "":
		t.name, t.named = name, true
	case !ok && hasJSON && js == "-":
		t.skip = true
		return t, nil
	default:
		// A bare json "-" beside a leat tag leaves the field out of JSON, which
		// says nothing about its name here.
		if jname, _, _ := strings.Cut(js, ","); jname != "" && js != "-" {
			t.name, t.named = jname, true
		} else {
			t.name = snake(f.Name)
		}
	}
	switch {
	case !ok && strings.Contains(string(f.Tag), "leat:"):
		return t, fmt.Errorf("malformed struct tag %#q: write `leat:\"name\"`", string(f.Tag))
	case ok && name == "-":
		return t, errors.New("a field that is left out takes no options")
	}
	if err := checkName(t.name); err != nil {
		return t, err
	}
	// A json name such as @timestamp (Elasticsearch's) is data; only the leat tag asks for an origin.
	t.origin = strings.HasPrefix(name, "@")
	if !more {
		return t, nil
	}
	return t, t.options(options)
}

func (t *tag) options(s string) error {
	if t.origin {
		return fmt.Errorf("%s takes no options", t.name)
	}
	for more := true; more; {
		var opt string
		if layout, ok := strings.CutPrefix(s, "time="); ok {
			if rest, ok := strings.CutSuffix(layout, ",key"); ok {
				layout, s = rest, "key"
			} else {
				more = false
			}
			if layout == "" {
				return errors.New("time= needs a layout, such as time=2006-01-02 15:04:05")
			}
			t.layout = layout
			continue
		}
		opt, s, more = strings.Cut(s, ",")
		switch {
		case opt == "key" && t.key:
			return errors.New("the option key is given twice")
		case opt == "key":
			t.key = true
		case opt == "extra" && t.extra:
			return errors.New("the option extra is given twice")
		case opt == "extra":
			t.extra = true
		case strings.HasPrefix(opt, "decimal="):
			if t.precision != 0 {
				return errors.New("the option decimal= is given twice")
			}
			var err error
			if t.precision, t.scale, err = parseDecimalTag(strings.TrimPrefix(opt, "decimal=")); err != nil {
				return err
			}
		case opt == "" && !more:
			// A trailing comma, as the json tag allows it.
		default:
			return fmt.Errorf("unknown option %q: there are key, extra, decimal=PRECISION.SCALE and time=LAYOUT", opt)
		}
	}
	return nil
}

// maxPrecision is what databases and file formats share: the digits of a 128-bit integer.
const maxPrecision = 38

// parseDecimalTag reads 18.2: 18 digits in all, 2 of them behind the point.
func parseDecimalTag(s string) (precision, scale int, err error) {
	p, sc, ok := strings.Cut(s, ".")
	precision, err1 := strconv.Atoi(p)
	scale, err2 := strconv.Atoi(sc)
	if !ok || err1 != nil || err2 != nil || precision < 1 || precision > maxPrecision || scale < 0 || scale > precision {
		return 0, 0, fmt.Errorf("decimal=%s is no decimal: write PRECISION.SCALE, the digits in all (1 to %d) and those behind the point, such as decimal=18.2", s, maxPrecision)
	}
	return precision, scale, nil
}

// checkName keeps out names that nobody can see or type in a header line.
func checkName(name string) error {
	if !utf8.ValidString(name) {
		return fmt.Errorf("the column name %q is not valid UTF-8", name)
	}
	if strings.TrimSpace(name) != name {
		return fmt.Errorf("the column name %q has spaces around it", name)
	}
	if strings.ContainsFunc(name, unicode.IsControl) {
		return fmt.Errorf("the column name %q holds a control character", name)
	}
	return nil
}

// checkOrigin returns what is wrong with an origin field, or "".
func checkOrigin(c *Column) string {
	var want string
	ok := !c.Null
	switch c.Name {
	case "@file", "@topic", "@key":
		ok, want = ok && c.Kind == String, "a string"
	case "@line", "@partition":
		ok, want = ok && (c.Kind == Int || c.Kind == Uint || c.Kind == String), "an integer or a string"
	case "@offset":
		ok, want = ok && (c.Kind == Int || c.Kind == Uint), "an integer"
	case "@timestamp":
		ok, want = ok && c.Kind == Time, "a time.Time"
	default:
		header, isHeader := strings.CutPrefix(c.Name, "@header.")
		if !isHeader || header == "" {
			return "unknown origin: there are @file, @line, @topic, @partition, @offset, @key, @timestamp and @header.NAME"
		}
		ok, want = ok && c.Kind == String, "a string"
	}
	if !ok {
		return fmt.Sprintf("the field must be %s, not %v", want, c.Type)
	}
	return ""
}

// layoutVaries says whether two instants that differ in everything differ in
// this layout. A layout such as YYYY-MM-DD prints itself.
func layoutVaries(layout string) bool {
	a := time.Date(2001, 2, 3, 4, 5, 6, 111_222_333, time.UTC)
	b := time.Date(2019, 11, 24, 17, 48, 39, 444_555_666, time.UTC)
	return a.Format(layout) != b.Format(layout)
}

// snake turns a Go field name into a column name: VentaID is venta_id,
// HTTPServer is http_server, Anio2024 is anio2024.
func snake(name string) string {
	runes := []rune(name)
	out := make([]rune, 0, len(runes)+4)
	for i, r := range runes {
		if unicode.IsUpper(r) && i > 0 && runes[i-1] != '_' {
			startsWord := !unicode.IsUpper(runes[i-1])
			endsInitials := i+1 < len(runes) && unicode.IsLower(runes[i+1])
			if startsWord || endsInitials {
				out = append(out, '_')
			}
		}
		out = append(out, unicode.ToLower(r))
	}
	return string(out)
}
