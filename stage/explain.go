package stage

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-playground/validator/v10"

	"github.com/leatgo/leat"
)

const (
	maxValue  = 64  // bytes of a text value that a message repeats
	maxText   = 200 // bytes of anything else, such as the list of a oneof
	maxFaults = 20  // faults of a row that a message tells: dive may find thousands
)

// explain makes a row's error of the validator's: all faults in one message, the
// first one for the statistics.
func (c *contract) explain(err error) error {
	var faults validator.ValidationErrors
	if !errors.As(err, &faults) || len(faults) == 0 {
		return err
	}
	var out leat.FieldError
	var b strings.Builder
	for i, fe := range faults {
		at := c.find(fe.StructNamespace())
		if i == 0 {
			out.Column, out.Rule = at.column, fe.Tag()
		}
		if i == maxFaults {
			fmt.Fprintf(&b, "; and %d more", len(faults)-i)
			break
		}
		if i > 0 {
			b.WriteString("; ")
		}
		b.WriteString(at.path)
		b.WriteString(": ")
		c.say(&b, fe, at.parent)
	}
	out.Msg = b.String()
	return &out
}

// place is where in the row a fault is, in the words of whoever reads the data.
type place struct {
	column string       // of the row
	path   string       // the column, or what is at fault inside it
	parent reflect.Type // the struct that has the field; nil when it is not known
}

// find follows the Go path of a fault ("Venta.Base.Lineas[2].Precio") through the
// row type. What it does not know, a name that a struct-level function made up,
// stays as it is.
func (c *contract) find(path string) place {
	if name := c.root.Name(); name != "" {
		path = strings.TrimPrefix(path, name+".")
	}
	var out place
	var b strings.Builder
	for t := c.root; path != ""; {
		out.parent = t
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		f, known := c.structs[t][path[:end]]
		if !known {
			f, out.parent = field{name: path[:end]}, nil
		}
		path = path[end:]
		if !f.flat {
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(f.name)
			if out.column == "" {
				out.column = f.name
			}
		}
		t = nil
		if known {
			t = deref(f.typ)
		}
		for strings.HasPrefix(path, "[") {
			index := path[1:]
			end := indexEnd(index)
			index, path = index[:end], strings.TrimPrefix(index[end:], "]")
			if _, err := strconv.Atoi(index); err != nil { // the key of a map: data
				index = quote(index)
			}
			b.WriteString("[" + index + "]")
			if t != nil {
				switch t.Kind() {
				case reflect.Slice, reflect.Array, reflect.Map:
					t = deref(t.Elem())
				default:
					t = nil
				}
			}
		}
		path = strings.TrimPrefix(path, ".")
	}
	out.path = b.String()
	if out.path == "" {
		out.path = "row"
	}
	return out
}

// indexEnd is where the ] is that ends an index; keys of maps may hold others.
func indexEnd(s string) int {
	for i := range len(s) {
		if s[i] == ']' && (i+1 == len(s) || s[i+1] == '.' || s[i+1] == '[') {
			return i
		}
	}
	return len(s)
}

// say tells what a value must be and what it is: must be at least 1, is -3 (min=1).
func (c *contract) say(b *strings.Builder, fe validator.FieldError, parent reflect.Type) {
	d := c.demand(fe, parent)
	b.WriteString("must ")
	b.WriteString(d.must)
	if !d.obvious {
		b.WriteString(", ")
		b.WriteString(valueIs(fe.Value()))
	}
	b.WriteString(" (")
	b.WriteString(fe.Tag())
	if !d.told && fe.Param() != "" && fe.Tag() == fe.ActualTag() && !strings.Contains(fe.Tag(), "=") {
		b.WriteString("=" + oneLine(fe.Param()))
	}
	b.WriteByte(')')
}

// demand is what a rule asks for, to be read after "must".
type demand struct {
	must    string
	obvious bool // what the value is need not be said
	told    bool // must says all that the rule's parameter does
}

func (c *contract) demand(fe validator.FieldError, parent reflect.Type) demand {
	rule, param := fe.ActualTag(), oneLine(fe.Param())
	other := func() string { return c.columnsOf(parent, []string{fe.Param()})[0] }
	switch rule {
	case "required":
		return demand{must: "not be " + nothing(fe.Value()), obvious: true}
	case "min", "gte", "max", "lte", "gt", "lt", "len":
		return demand{must: compare(rule, param, fe.Type())}
	case "eq":
		return demand{must: "be " + param}
	case "ne":
		return demand{must: "not be " + param, obvious: true}
	case "oneof", "oneofci":
		return demand{must: "be one of " + oneLine(strings.Join(words(fe.Param()), ", ")), told: true}
	case "noneof", "noneofci":
		return demand{must: "be none of " + oneLine(strings.Join(words(fe.Param()), ", ")), told: true}
	case "eqfield":
		return demand{must: "equal " + other(), told: true}
	case "nefield":
		return demand{must: "differ from " + other(), told: true}
	case "gtfield":
		return demand{must: "be greater than " + other(), told: true}
	case "gtefield":
		return demand{must: "not be less than " + other(), told: true}
	case "ltfield":
		return demand{must: "be less than " + other(), told: true}
	case "ltefield":
		return demand{must: "not be greater than " + other(), told: true}
	case "startswith":
		return demand{must: "start with " + quote(fe.Param()), told: true}
	case "endswith":
		return demand{must: "end with " + quote(fe.Param()), told: true}
	case "contains":
		return demand{must: "contain " + quote(fe.Param()), told: true}
	case "excludes":
		return demand{must: "not contain " + quote(fe.Param()), told: true}
	case "datetime":
		return demand{must: "be a time in the layout " + param, told: true}
	}
	if what, ok := forms[rule]; ok {
		return demand{must: what}
	}
	if when, ok := strings.CutPrefix(rule, "required_"); ok {
		if when = c.when(when, fe.Param(), parent); when != "" {
			return demand{must: "not be empty " + when, obvious: true, told: true}
		}
	}
	if when, ok := strings.CutPrefix(rule, "excluded_"); ok {
		if when = c.when(when, fe.Param(), parent); when != "" {
			return demand{must: "be empty " + when, told: true}
		}
	}
	if strings.Contains(rule, "|") {
		return demand{must: "satisfy " + strings.Join(strings.Split(oneLine(rule), "|"), " or ")}
	}
	return demand{must: "satisfy the rule " + rule}
}

// forms are what the rules without a parameter ask for; those that are missing
// are called by their names.
var forms = map[string]string{
	"alpha":            "be letters from A to Z",
	"alphanum":         "be letters from A to Z and digits",
	"alphaunicode":     "be letters",
	"alphanumunicode":  "be letters and digits",
	"ascii":            "be ASCII text",
	"base64":           "be base64 text",
	"boolean":          "be true or false",
	"credit_card":      "be a credit card number",
	"e164":             "be a telephone number such as +34600000000",
	"email":            "be an e-mail address",
	"fqdn":             "be a domain name",
	"hexadecimal":      "be a hexadecimal number",
	"hostname":         "be a host name",
	"hostname_rfc1123": "be a host name",
	"http_url":         "be an http or https URL",
	"https_url":        "be an https URL",
	"ip":               "be an IP address",
	"ipv4":             "be an IPv4 address",
	"ipv6":             "be an IPv6 address",
	"isdefault":        "be empty",
	"iso3166_1_alpha2": "be a country code of two letters",
	"iso3166_1_alpha3": "be a country code of three letters",
	"iso4217":          "be a currency code such as EUR",
	"json":             "be JSON",
	"latitude":         "be a latitude",
	"longitude":        "be a longitude",
	"lowercase":        "be in lower case",
	"mac":              "be a MAC address",
	"number":           "be digits",
	"numeric":          "be a number",
	"timezone":         "be the name of a time zone",
	"ulid":             "be a ULID",
	"unique":           "not hold anything twice",
	"uppercase":        "be in upper case",
	"uri":              "be a URI",
	"url":              "be a URL",
	"uuid":             "be a UUID",
	"uuid4":            "be a UUID of version 4",
	"uuid7":            "be a UUID of version 7",
}

// nothing says how a value of nothing looks.
func nothing(v any) string {
	rv := reflect.ValueOf(v)
	switch rv.Kind() {
	case reflect.Invalid, reflect.Pointer, reflect.Interface:
		return "null"
	case reflect.Bool:
		return "false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64,
		reflect.Float32, reflect.Float64:
		return "0"
	}
	return "empty"
}

// compare words min, max and so on, which mean the length of what has one.
func compare(rule, param string, t reflect.Type) string {
	how := map[string]string{"min": "at least ", "gte": "at least ", "max": "at most ", "lte": "at most ", "gt": "more than ", "lt": "less than ", "len": "exactly "}[rule]
	unit := ""
	if t != nil {
		t = deref(t)
		switch {
		case t.ConvertibleTo(timeType) && t.Kind() == reflect.Struct && param == "":
			return map[string]string{"gt": "be in the future", "gte": "not be in the past", "lt": "be in the past", "lte": "not be in the future"}[rule]
		case t.Kind() == reflect.String:
			unit = " character"
		case t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
			unit = " byte"
		case t.Kind() == reflect.Slice || t.Kind() == reflect.Array || t.Kind() == reflect.Map:
			unit = " element"
		}
	}
	switch {
	case unit == "" && rule == "len":
		return "be " + param
	case unit == "":
		return "be " + how + param
	case param != "1":
		unit += "s"
	}
	return "have " + how + param + unit
}

// when words the conditions of required_if and its kin; "" for none of them.
func (c *contract) when(kind, param string, parent reflect.Type) string {
	names := c.columnsOf(parent, strings.Fields(param))
	list := func(and, one, many string) string {
		if len(names) > 1 {
			one = many
		}
		return "when " + strings.Join(names, " "+and+" ") + one
	}
	switch kind {
	case "with":
		return list("or", " is given", " is given")
	case "with_all":
		return list("and", " is given", " are given")
	case "without":
		return list("or", " is missing", " is missing")
	case "without_all":
		return list("and", " is missing", " are missing")
	case "if", "unless":
		var conditions []string
		ws := words(param)
		for i := 0; i+1 < len(ws); i += 2 {
			conditions = append(conditions, c.columnsOf(parent, ws[i:i+1])[0]+" is "+oneLine(ws[i+1]))
		}
		if kind == "if" {
			kind = "when"
		}
		return kind + " " + strings.Join(conditions, " and ")
	}
	return ""
}

// columnsOf turns Go fields of a struct into names of columns.
func (c *contract) columnsOf(parent reflect.Type, fields []string) []string {
	out := make([]string, len(fields))
	for i, name := range fields {
		out[i] = oneLine(name)
		if parent == nil {
			continue
		}
		if f, ok := c.structs[parent][name]; ok {
			out[i] = f.name
			continue
		}
		if promoted, ok := parent.FieldByName(name); ok { // of an embedded struct
			out[i] = fieldOf(promoted).name
		}
	}
	return out
}

// valueIs tells a value in a few words, on one line.
func valueIs(v any) string {
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	switch rv.Kind() {
	case reflect.Invalid, reflect.Pointer:
		return "is null"
	case reflect.Slice, reflect.Array, reflect.Map:
		if rv.Type().Elem().Kind() == reflect.Uint8 && rv.Kind() == reflect.Slice {
			return "is " + quote(string(rv.Bytes()))
		}
		if rv.Kind() != reflect.Array && rv.IsNil() {
			return "is empty"
		}
		if rv.Len() == 1 {
			return "has 1 element"
		}
		return fmt.Sprintf("has %d elements", rv.Len())
	}
	switch v := rv.Interface().(type) {
	case string:
		return "is " + quote(v)
	case time.Time:
		return "is " + v.Format(time.RFC3339Nano)
	}
	if rv.Kind() == reflect.String {
		return "is " + quote(rv.String())
	}
	return "is " + oneLine(fmt.Sprint(rv.Interface()))
}

// quote makes one line of a text of the row, cut.
func quote(s string) string {
	if short := cut(s, maxValue); len(short) < len(s) {
		return fmt.Sprintf("%q… (%d bytes)", short, len(s))
	}
	return strconv.Quote(s)
}

// oneLine makes printable text fit for a message.
func oneLine(s string) string {
	short := cut(s, maxText)
	if len(short) < len(s) {
		short += "…"
	}
	q := strconv.Quote(short)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	end := n
	for end > n-utf8.UTFMax && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}
