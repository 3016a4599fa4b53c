package row

import (
	"slices"
	"strings"
	"unicode/utf8"
	"unsafe"
)

// Spelling is how a text writes its values, where that differs from what [Column.Parse]
// reads. The zero Spelling differs in nothing, and takes any bytes. A Spelling must not be changed once it is used.
type Spelling struct {
	// Null are texts that mean an empty cell, exactly.
	Null []string

	// True and False are texts of bools, beside those that Parse knows.
	True, False []string

	// Trim takes spaces and tabs off both ends of each cell before all else.
	Trim bool

	// Decimal and Thousands stand in numbers: "," and "." in 1.234,56. Thousands may be left
	// out, but where there is one, all are. "" is "." and none. Numbers are those of columns
	// that hold some, and of those tagged `decimal=`.
	Decimal, Thousands string

	// Text says what a string must be, to be read after "is not": "valid UTF-8". It is then
	// checked to be that. Bytes are only checked with CheckBytes. "" checks nothing.
	Text       string
	CheckBytes bool
}

// Set sets the column from a cell as this spelling has it; keep, if not nil, copies the
// strings. Errors are of type *[Error], and show the cell as it is written.
func (s *Spelling) Set(c *Column, p unsafe.Pointer, text string, keep *Decoder) error {
	if !s.plainly() {
		return s.setOdd(c, p, text, keep)
	}
	switch {
	case text == "":
		return c.Empty(p)
	case c.Kind < String || c.Kind == Time || c.Kind == Duration:
	case !s.valid(c, text):
		return c.fail(RuleUTF8, text, "is not "+s.Text, nil)
	case c.Kind == String && keep != nil:
		text = keep.Keep(text)
	}
	return c.Parse(p, text)
}

// plainly tells whether values are spelled as Parse reads them.
func (s *Spelling) plainly() bool {
	return len(s.Null)|len(s.True)|len(s.False)|len(s.Decimal)|len(s.Thousands) == 0 && !s.Trim
}

// setOdd is Set for other spellings.
func (s *Spelling) setOdd(c *Column, p unsafe.Pointer, text string, keep *Decoder) error {
	text, empty := s.read(text)
	switch {
	case empty:
		return c.Empty(p)
	case s.numeric(c):
		return s.setNumber(c, p, text, keep)
	case c.Kind == Bool && s.isBool(text):
		return c.Parse(p, boolText(slices.Contains(s.True, text)))
	case !s.valid(c, text):
		return c.fail(RuleUTF8, text, "is not "+s.Text, nil)
	case c.Kind == String && keep != nil:
		text = keep.Keep(text)
	}
	return c.Parse(p, text)
}

// read gives the cell as it counts, and whether it is an empty one.
func (s *Spelling) read(text string) (string, bool) {
	if s.Trim {
		text = strings.Trim(text, " \t")
	}
	return text, text == "" || len(s.Null) > 0 && slices.Contains(s.Null, text)
}

// valid tells whether the text may become the column's value.
func (s *Spelling) valid(c *Column, text string) bool {
	switch {
	case s.Text == "":
	case c.Kind == String, c.Kind == Text, c.Kind == Bytes && s.CheckBytes:
		return utf8.ValidString(text)
	}
	return true
}

// Check says what is wrong with a text that is of no column; "" is nothing.
func (s *Spelling) Check(text string) (fault string) {
	if s.Text == "" || utf8.ValidString(text) {
		return ""
	}
	return "is not " + s.Text
}

func (s *Spelling) isBool(text string) bool {
	return slices.Contains(s.True, text) || slices.Contains(s.False, text)
}

func boolText(v bool) string {
	if v {
		return "true"
	}
	return "false"
}

// numeric tells the columns whose numbers are spelled in a way of their own.
func (s *Spelling) numeric(c *Column) bool {
	if s.Decimal == "" && s.Thousands == "" {
		return false
	}
	switch c.Kind {
	case Int, Uint, Float:
		return true
	case String, Text:
		return c.Precision > 0
	}
	return false
}

func (s *Spelling) setNumber(c *Column, p unsafe.Pointer, text string, keep *Decoder) error {
	var buf []byte
	if keep != nil {
		buf = keep.number[:0]
	}
	plain, ok := s.plain(buf, text)
	if keep != nil && cap(plain) <= 1<<10 {
		keep.number = plain
	}
	if !ok {
		what := "a number"
		if c.Kind == Int || c.Kind == Uint {
			what = "a whole number"
		}
		return c.fail(RuleSyntax, text, "is not "+what+" as this source spells them: "+s.example(), nil)
	}
	var err error
	switch {
	case c.Kind == String && keep != nil:
		err = c.Parse(p, keep.Keep(unsafe.String(unsafe.SliceData(plain), len(plain))))
	case c.Kind == String || c.Kind == Text:
		err = c.Parse(p, string(plain))
	default: // Parse keeps nothing of it
		err = c.Parse(p, unsafe.String(unsafe.SliceData(plain), len(plain)))
	}
	if e, is := err.(*Error); is {
		e.Value, e.size = strings.Clone(cut(text, maxValue)), len(text)
	}
	return err
}

func (s *Spelling) example() string {
	point := s.Decimal
	if point == "" {
		point = "."
	}
	return "1" + s.Thousands + "234" + point + "5"
}

// plain appends the number with a decimal point and nothing between thousands. ok is false if
// it is none in this spelling; that its digits are some is for others to see.
func (s *Spelling) plain(dst []byte, text string) (_ []byte, ok bool) {
	if text != "" && (text[0] == '-' || text[0] == '+') {
		dst, text = append(dst, text[0]), text[1:]
	}
	point := s.Decimal
	if point == "" {
		point = "."
	}
	grouped, group := false, 0 // digits since the last separator
	for text != "" {
		switch b := text[0]; {
		case b-'0' <= 9:
			dst, text = append(dst, b), text[1:]
			group++
			continue
		case s.Thousands != "" && strings.HasPrefix(text, s.Thousands):
			if group == 0 || group > 3 || grouped && group != 3 {
				return nil, false
			}
			grouped, group, text = true, 0, text[len(s.Thousands):]
			continue
		case strings.HasPrefix(text, point):
			dst, text = append(dst, '.'), text[len(point):]
		case b != 'e' && b != 'E':
			return nil, false
		}
		for i := range len(text) {
			switch b := text[i]; {
			case b-'0' <= 9, b == 'e', b == 'E', b == '-', b == '+':
			default:
				return nil, false
			}
		}
		dst, text = append(dst, text...), ""
	}
	return dst, !grouped || group == 3
}

// quick tells whether a step of the given kind, which takes a cell as Parse does, takes none
// that this spelling means otherwise.
func (s *Spelling) quick(k code, c *Column) bool {
	if s.Trim {
		return false
	}
	switch k {
	case stepString:
		return len(s.Null) == 0 && !s.numeric(c)
	case stepFloat64, stepFloat32: // a whole number too may end in a group of thousands
		if s.numeric(c) {
			return false
		}
	}
	// Numbers and times have a digit.
	return !slices.ContainsFunc(s.Null, func(n string) bool { return strings.ContainsAny(n, "0123456789") })
}
