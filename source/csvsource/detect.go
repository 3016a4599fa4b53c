package csvsource

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/filesource"
)

// Dialect is what Detect has found out about a file.
type Dialect struct {
	Encoding   Encoding
	Delimiter  rune
	Quote      rune // -1: nothing is quoted
	Comment    rune // 0: no comments
	SkipLines  int  // physical lines before the header, or before the first record
	HasHeader  bool
	Columns    []string // of the header; nil without one
	Fields     int      // of most records
	Decimal    rune     // '.' or ','
	Thousands  rune     // 0: none were seen
	Confidence float64  // 0 to 1: of the least sure of encoding, delimiter and header
	Why        []string // what was seen, and what speaks against it, in words
}

// String is one line for people.
func (d Dialect) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v, delimiter %q", d.Encoding, d.Delimiter)
	if d.Quote == -1 {
		b.WriteString(", nothing quoted")
	} else {
		fmt.Fprintf(&b, ", quote %q", d.Quote)
	}
	if d.Comment != 0 {
		fmt.Fprintf(&b, ", comments %q", d.Comment)
	}
	if d.SkipLines > 0 {
		fmt.Fprintf(&b, ", %d lines to skip", d.SkipLines)
	}
	if d.HasHeader {
		b.WriteString(", a header")
	} else {
		b.WriteString(", no header")
	}
	fmt.Fprintf(&b, ", %d fields", d.Fields)
	if d.Decimal == ',' || d.Thousands != 0 {
		fmt.Fprintf(&b, ", numbers like 1%s234%c5", textOf(d.Thousands), d.Decimal)
	}
	fmt.Fprintf(&b, " (confidence %.2f)", d.Confidence)
	return b.String()
}

func textOf(r rune) string {
	if r == 0 {
		return ""
	}
	return string(r)
}

// detectBytes is how much of a file is looked at.
const detectBytes = 256 << 10

// Detect looks at the first 256 KiB of a text and says how it seems to be written. It is a guess: for
// people, or for a program that shows it to them. A Source does not call it, because
// what it finds may differ between two files of a folder, and between two versions of leat, while
// rows and offsets must not (rule D6). Put what it found into the program, or into
// a Config by With.
//
// The same bytes give the same Dialect, however r delivers them. An error is one of r; about an empty
// text nothing is known, and Confidence is 0.
func Detect(r io.Reader) (Dialect, error) {
	raw := make([]byte, detectBytes+1)
	n, err := io.ReadFull(r, raw)
	whole := err == io.EOF || err == io.ErrUnexpectedEOF
	if err != nil && !whole {
		return Dialect{}, fmt.Errorf("csvsource: %w", err)
	}
	return detect(raw[:min(n, detectBytes)], whole), nil
}

// DetectFile is Detect for a file; its name may end with .gz or .zst.
func DetectFile(path string) (Dialect, error) {
	f, err := os.Open(path)
	if err != nil {
		return Dialect{}, fmt.Errorf("csvsource: %w", err)
	}
	defer f.Close()
	r, done, err := filesource.OpenText(path, f)
	if err != nil {
		return Dialect{}, fmt.Errorf("csvsource: %s: %w", path, err)
	}
	defer done()
	return Detect(r)
}

// With is c with what Detect found out in the fields about how files are written; Lenient, Ragged and the
// like stay as they are. If d has no header line, c must name the columns in
// Header. If both are there, c's names stand, and the header line is passed over.
func (c Config[T]) With(d Dialect) Config[T] {
	c.Encoding, c.Delimiter, c.Quote, c.Comment, c.SkipLines = d.Encoding, d.Delimiter, d.Quote, d.Comment, d.SkipLines
	c.Decimal, c.Thousands = d.Decimal, d.Thousands
	c.headerless = !d.HasHeader
	if d.HasHeader && len(c.Header) > 0 {
		c.SkipLines++
	}
	return c
}

func detect(raw []byte, whole bool) Dialect {
	d := Dialect{Delimiter: ',', Quote: '"', Decimal: '.', HasHeader: true}
	why := func(format string, args ...any) { d.Why = append(d.Why, fmt.Sprintf(format, args...)) }

	e := detectEncoding(raw, whole)
	d.Encoding, d.Confidence = e.encoding, e.sure
	why("%s: %s", d.Encoding, e.why)

	text := e.text
	if !whole {
		if n := bytes.LastIndexByte(text, '\n'); n >= 0 {
			text = text[:n+1]
		}
	}
	if len(bytes.TrimSpace(text)) == 0 {
		d.Confidence = 0
		why("there is no text")
		return d
	}
	if bytes.IndexByte(text, '\n') < 0 && bytes.IndexByte(bytes.TrimRight(text, "\r"), '\r') >= 0 {
		d.Confidence = 0
		why("its lines end with CR alone, as on old Macintoshes: csvsource does not read such files, convert them first")
		text = bytes.ReplaceAll(text, []byte("\r"), []byte("\n"))
	}
	if n := bytes.IndexByte(text, 0); n >= 0 {
		d.Confidence = min(d.Confidence, 0.2)
		why("there are NUL characters, the first at byte %d: it may be no text", n)
	}

	g, sure := detectForm(text)
	d.Confidence = min(d.Confidence, sure)
	d.Delimiter, d.Quote, d.Comment, d.Fields, d.SkipLines = rune(g.delimiter), rune(g.quote), rune(g.comment), g.fields, g.skip
	if g.quote == 0 {
		d.Quote = -1
	}
	d.Why = append(d.Why, g.why...)

	header, sure, said := detectHeader(g.body)
	d.HasHeader, d.Confidence = header, min(d.Confidence, sure)
	d.Why = append(d.Why, said)
	body := g.body
	if header && len(body) > 0 {
		body = body[1:]
		for _, name := range g.body[0] {
			d.Columns = append(d.Columns, strings.Clone(name)) // not the whole sample
		}
	}
	d.Decimal, d.Thousands, said = detectNumbers(body)
	if said != "" {
		d.Why = append(d.Why, said)
	}
	return d
}

// encodingGuess is text in UTF-8, without byte order mark, and why it is.
type encodingGuess struct {
	encoding Encoding
	text     []byte
	sure     float64
	why      string
}

func detectEncoding(raw []byte, whole bool) encodingGuess {
	decoded := func(e Encoding, raw []byte, sure float64, format string, args ...any) encodingGuess {
		if !whole && (e == UTF16LE || e == UTF16BE) {
			raw = raw[:len(raw)&^1]
		}
		return encodingGuess{e, e.code().Decode(nil, raw), sure, fmt.Sprintf(format, args...)}
	}
	switch {
	case bytes.HasPrefix(raw, []byte("\xff\xfe\x00\x00")) && len(raw)%4 == 0 && len(raw) > 4:
		return decoded(UTF8, raw, 0, "this is UTF-32, which csvsource does not read")
	case bytes.HasPrefix(raw, []byte("\xff\xfe")):
		return decoded(UTF16LE, raw[2:], 1, "it begins with the byte order mark")
	case bytes.HasPrefix(raw, []byte("\xfe\xff")):
		return decoded(UTF16BE, raw[2:], 1, "it begins with the byte order mark")
	case bytes.HasPrefix(raw, []byte("\xef\xbb\xbf")):
		return decoded(UTF8, raw[3:], 1, "it begins with the byte order mark")
	}
	// Line ends, delimiters and digits have a zero byte in UTF-16, all on one side.
	var zeros [2]int
	for i, b := range raw {
		if b == 0 {
			zeros[i&1]++
		}
	}
	for side, e := range map[int]Encoding{1: UTF16LE, 0: UTF16BE} {
		if n := zeros[side]; n >= 2 && n >= len(raw)/40 && n > 8*zeros[1-side] {
			return decoded(e, raw, 0.9, "every other byte is often zero; there is no byte order mark")
		}
	}
	text := raw
	if !whole { // perhaps in the middle of a character
		for i := 1; i < utf8.UTFMax && i <= len(text); i++ {
			if b := text[len(text)-i]; utf8.RuneStart(b) {
				if !utf8.FullRune(text[len(text)-i:]) {
					text = text[:len(text)-i]
				}
				break
			}
		}
	}
	var ascii, more, bad, undefined, upper int
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		switch {
		case r == utf8.RuneError && size == 1:
			bad++
		case size == 1:
			ascii++
		default:
			more++
		}
		for _, b := range rest[:size] {
			if b >= 0x80 && b <= 0x9f {
				upper++
				if !Windows1252.code().Defined(b) {
					undefined++
				}
			}
		}
		rest = rest[size:]
	}
	switch {
	case bad == 0 && more == 0:
		return encodingGuess{UTF8, text, 1, "it is ASCII so far, which is the same in most encodings"}
	case bad == 0:
		return encodingGuess{UTF8, text, 1, fmt.Sprintf("all its %d characters beyond ASCII are valid", more)}
	case more >= 4*bad:
		return encodingGuess{UTF8, text, 0.6, fmt.Sprintf("%d characters beyond ASCII are valid, %d bytes are not", more, bad)}
	case undefined > 0:
		return decoded(Latin1, text, 0.4, "%d bytes beyond ASCII are no valid UTF-8, %d of them have no meaning in Windows-1252; it may be an encoding that is not known here", bad, undefined)
	case upper > 0:
		return decoded(Windows1252, text, 0.8, "%d bytes beyond ASCII are no valid UTF-8, %d of them would be control characters in Latin-1", bad, upper)
	}
	return decoded(Windows1252, text, 0.75, "%d bytes beyond ASCII are no valid UTF-8; so far they are the same in Latin-1", bad)
}

// formGuess is one way of cutting a text, and what comes of it.
type formGuess struct {
	delimiter, quote, comment byte

	score  float64
	fields int // of most records
	skip   int // physical lines before the first of them
	body   [][]string
	why    []string
}

// delimiters and what speaks for each, before anything was seen.
var delimiters = []struct {
	b     byte
	prior float64
}{{',', 1}, {';', 1}, {'\t', 1}, {'|', 1}, {'\x1f', 0.9}, {'\x01', 0.9}, {'~', 0.7}, {'^', 0.7}, {':', 0.4}, {' ', 0.35}}

const (
	scored      = 128 << 10 // bytes of text that are cut in each way
	mostFields  = 4096
	mostRecords = 1500
	mostLead    = 40 // records that may be before the header
)

// detectForm cuts the text in all ways, and finds the one that gives most records of one
// width with cells that look like values: the idea of van den Burg, Nazábal and Sutton's CleverCSV.
func detectForm(text []byte) (best formGuess, sure float64) {
	if d, n := sepLine(text); d != 0 {
		for i, q := range []byte{'"', '\'', 0} {
			if g := formOf(text[n:], d, q, 0); i == 0 || g.score > best.score*1.05 {
				best = g
			}
		}
		best.skip++
		best.why = append(best.why, fmt.Sprintf("delimiter %q: the first line says so, as Excel writes it", d))
		return best, 1
	}
	part := text
	if len(part) > scored {
		if n := bytes.LastIndexByte(part[:scored], '\n'); n >= 0 {
			part = part[:n+1]
		} else {
			part = part[:scored]
		}
	}
	comments := []byte{0}
	if bytes.HasPrefix(part, []byte("#")) || bytes.Contains(part, []byte("\n#")) {
		comments = append(comments, '#')
	}
	quotes := []byte{'"'}
	if bytes.IndexByte(part, '\'') >= 0 {
		quotes = append(quotes, '\'')
	}
	if bytes.IndexByte(part, '"') >= 0 {
		quotes = append(quotes, 0)
	}
	best = formOf(part, 0, '"', 0)
	best.delimiter = ','
	second := 0.0 // the best with another delimiter
	for _, d := range delimiters {
		if bytes.IndexByte(part, d.b) < 0 {
			continue
		}
		var most formGuess
		for _, c := range comments {
			for _, q := range quotes {
				g := formOf(part, d.b, q, c)
				if g.score *= d.prior; g.score > most.score*1.02 {
					most = g
				}
			}
		}
		if most.score > best.score {
			best, second = most, best.score
		} else {
			second = max(second, most.score)
		}
	}
	n := len(best.body)
	sure = min(1, best.score*1.3) * (0.5 + 0.5*(best.score-second)/max(best.score, 1e-9))
	if n < 3 {
		sure *= 0.6
	}
	if best.fields == 1 {
		best.why = append(best.why, fmt.Sprintf("no delimiter gives %d records of one width: one column", n))
		return best, min(sure, 0.5)
	}
	best.why = append(best.why, fmt.Sprintf("delimiter %q: it gives records of %d fields (score %.2f, the next best %.2f)", best.delimiter, best.fields, best.score, second))
	return best, sure
}

// sepLine is a first line such as sep=; and its length.
func sepLine(text []byte) (delimiter byte, size int) {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	size = min(len(line)+1, len(text))
	line = bytes.Trim(bytes.TrimSuffix(line, []byte("\r")), `"`)
	if len(line) == 5 && strings.EqualFold(string(line[:4]), "sep=") && line[4] < utf8.RuneSelf {
		return line[4], size
	}
	return 0, 0
}

// formOf cuts the text in one way. Without a delimiter each line is one field.
func formOf(text []byte, delimiter, quote, comment byte) formGuess {
	g := formGuess{delimiter: delimiter, quote: quote, comment: comment}
	d := csvtext.Dialect{Delimiter: delimiter, Quote: quote, Comment: comment, MaxRecord: max(len(text), 1)}
	if delimiter == 0 {
		d.Delimiter = 0xff // no byte of a valid text
	}
	type record struct {
		fields []string
		line   int64
		count  int // -1: at fault
	}
	var records []record
	r := csvtext.NewRecords(&d, text, 1, mostFields)
	for len(records) < mostRecords && r.Next() {
		rec := record{slices.Clone(r.Fields), r.Line, r.Count}
		if r.Fault != csvtext.Fine {
			rec.count = -1
		}
		records = append(records, rec)
	}
	if len(records) == 0 {
		return g
	}
	// The width of most records; of two, that of more cells.
	widths := map[int]int{}
	for _, rec := range records {
		widths[rec.count]++
	}
	for w, n := range widths {
		if m := widths[g.fields]; w > 0 && (n > m || n == m && w > g.fields) {
			g.fields = w
		}
	}
	if g.fields == 0 {
		return g
	}
	start := slices.IndexFunc(records, func(r record) bool { return r.count == g.fields })
	if start > mostLead {
		start = 0
	}
	if start > 0 {
		g.skip = int(records[start].line) - 1
		g.why = append(g.why, fmt.Sprintf("the first %d lines have another form than the rest", g.skip))
	}
	fine, fault := 0, 0
	for _, rec := range records[start:] {
		switch rec.count {
		case g.fields:
			fine++
			g.body = append(g.body, rec.fields)
		case -1:
			fault++
		}
	}
	all := float64(len(records) - start)
	consistent := float64(fine) / all
	if fault > 0 {
		g.why = append(g.why, fmt.Sprintf("%d of %d records have a misplaced or missing quote: they are refused, unless Lenient is set", fault, len(records)-start))
	}
	if other := len(records) - start - fine - fault; other > 0 {
		g.why = append(g.why, fmt.Sprintf("%d of %d records have more or fewer fields than %d: they are refused, unless Ragged says otherwise", other, len(records)-start, g.fields))
	}
	g.score = consistent * consistent * typed(g.body, delimiter) * math.Sqrt(1-1/float64(g.fields))
	if g.fields == 1 {
		g.score = 0
		if delimiter == 0 { // what a delimiter must be better than
			g.score = 0.25 + 0.2*valued(g.body)
		}
	}
	if start > 0 {
		g.score *= 0.97
	}
	return g
}

// typed is how much the cells look like values, from 0 to 1.
func typed(body [][]string, delimiter byte) float64 {
	sum, n := 0.0, 0.0
	for _, rec := range body[:min(len(body), 300)] {
		for _, cell := range rec[:min(len(rec), 60)] {
			if cell != "" {
				sum += likely(cell, delimiter)
				n++
			}
		}
	}
	if n == 0 {
		return 0.1
	}
	return sum / n
}

// valued is the share of cells that are numbers, times or bools.
func valued(body [][]string) float64 {
	n := 0
	for _, rec := range body {
		if k := cellKind(rec[0]); k != kindText && k != kindEmpty {
			n++
		}
	}
	return float64(n) / float64(max(len(body), 1))
}

// likely is how much one cell looks like a value.
func likely(cell string, delimiter byte) float64 {
	if cellKind(cell) != kindText {
		return 1
	}
	s := strings.TrimSpace(cell)
	if s == "" {
		return 0.3
	}
	weight := 1.0
	if s != cell {
		weight = 0.9
	}
	if first, last := s[0], s[len(s)-1]; first == '"' || last == '"' || first == '\'' || last == '\'' {
		if first == last && len(s) > 1 {
			return 0.3 * weight // quoted, and the quote is another one
		}
		weight *= 0.4
	}
	others := 0 // that might delimit too
	for i := range len(s) {
		switch b := s[i]; {
		case b == delimiter:
		case b == ';' || b == '|' || b == '\t' || b == ',' && !(i+1 < len(s) && s[i+1] == ' '):
			others++
		case b < ' ' && b != '\n' && b != '\r':
			return 0.1
		}
	}
	switch {
	case others > 0:
		weight *= 0.5
	case strings.ContainsAny(s, "\"{}[]<>\\=^~*|"):
		weight *= 0.8
	}
	return weight
}

// detectHeader says whether the first record names the columns.
func detectHeader(body [][]string) (header bool, sure float64, why string) {
	if len(body) == 0 {
		return true, 0, "header: there is no record to tell from"
	}
	head, rest := body[0], body[1:]
	score := 0.0
	names := map[string]bool{}
	textual := 0
	for j, name := range head {
		k := cellKind(name)
		if k == kindText {
			textual++
		}
		trimmed := strings.TrimSpace(name)
		switch {
		case trimmed == "":
			score -= 0.3
			continue
		case names[trimmed]:
			score--
		}
		names[trimmed] = true
		kinds := map[kind]int{}
		seen, same, size := map[string]bool{}, false, 0
		filled, years := 0, false
		for _, rec := range rest {
			if rec[j] == "" {
				continue
			}
			filled++
			kinds[cellKind(rec[j])]++
			seen[rec[j]] = true
			years = years || isYear(rec[j])
			same = same || rec[j] == name
			size += len(rec[j])
		}
		if isYear(name) && !years {
			k = kindText
		}
		if filled == 0 {
			if k != kindText {
				score--
			} else {
				score += 0.1
			}
			continue
		}
		most := kindText
		for c := kindInt; c <= kindOther; c++ {
			if kinds[c]*5 >= filled*4 {
				most = c
			}
		}
		if n := kinds[kindInt] + kinds[kindNumber]; most == kindText && n*5 >= filled*4 {
			most = kindNumber
		}
		number := func(k kind) bool { return k == kindInt || k == kindNumber }
		switch {
		case most != kindText && k == kindText:
			score++
		case most != kindText && (k == most || number(k) && number(most)):
			score--
		case most != kindText:
			score -= 0.5
		case k != kindText: // a number above texts
			score -= 0.5
		case same:
			score--
		case len(seen)*2 <= filled:
			score += 0.4 // the texts repeat, and this one is none of them
		case float64(len(name)) < 0.5*float64(size)/float64(filled) || float64(len(name)) > 2*float64(size)/float64(filled):
			score += 0.2
		default:
			score += 0.05
		}
	}
	if len(rest) == 0 {
		if textual == len(head) {
			return true, 0.4, "header: there is one record only, all of it text"
		}
		return false, 0.3, "no header: there is one record only, and not all of it is text"
	}
	per := score / float64(len(head))
	sure = min(1, 0.5+math.Abs(per))
	if score > 0 {
		return true, sure, fmt.Sprintf("header: the first record differs from what is below it (score %+.2f a column)", per)
	}
	return false, sure, fmt.Sprintf("no header: the first record is like those below it (score %+.2f a column)", per)
}

// isYear knows the numbers that people put above columns.
func isYear(s string) bool {
	return len(s) == 4 && (s[:2] == "19" || s[:2] == "20") && s[2]-'0' <= 9 && s[3]-'0' <= 9
}

// detectNumbers tells how numbers are written, as far as cells can only be read one way.
func detectNumbers(body [][]string) (decimal, thousands rune, why string) {
	points, commas, doubtful := 0, 0, 0
	groups := map[rune]int{}
	for _, rec := range body {
		for _, cell := range rec {
			n, ok := splitNumber(strings.TrimSpace(cell))
			if !ok {
				continue
			}
			switch n.decimal {
			case '.':
				points++
			case ',':
				commas++
			}
			if n.doubt {
				doubtful++
			}
			if n.thousands != 0 {
				groups[n.thousands]++
			}
		}
	}
	decimal = '.'
	if commas > 4*points || commas == 0 && groups['.'] > 4*points {
		decimal = ','
	}
	for _, r := range []rune{'.', ',', ' ', '\'', '’', '\u00a0', '\u202f'} {
		if r != decimal && groups[r] > groups[thousands] {
			thousands = r
		}
	}
	switch {
	case decimal == ',' || thousands != 0:
		why = fmt.Sprintf("numbers like 1%s234%c5: %d with a decimal comma, %d with a decimal point", textOf(thousands), decimal, commas, points)
	case doubtful > 0:
		why = fmt.Sprintf("%d numbers like 1,234 or 1.234 can be read in two ways: taken as with a decimal point", doubtful)
	}
	return decimal, thousands, why
}
