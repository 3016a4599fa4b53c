package csvsource

import (
	"strings"
	"unicode/utf8"
)

// kind is what a cell looks like to Detect.
type kind uint8

const (
	kindEmpty kind = iota
	kindText
	kindInt
	kindNumber
	kindTime // dates and times
	kindBool
	kindOther // of a form of its own: a UUID, an address, a URL
)

func cellKind(cell string) kind {
	s := strings.TrimSpace(cell)
	switch {
	case s == "":
		return kindEmpty
	case len(s) > 100:
		return kindText
	case looksLikeTime(s):
		return kindTime
	}
	if n, ok := splitNumber(strings.TrimRight(strings.TrimLeft(s, "$€£"), "%€$£ ")); ok {
		if n.decimal == 0 && n.thousands == 0 && !n.doubt {
			return kindInt
		}
		return kindNumber
	}
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "si", "sí", "ja", "nein", "oui", "non", "null", "n/a", "na", "nan", "-":
		return kindBool
	}
	switch {
	case strings.HasPrefix(s, "http://"), strings.HasPrefix(s, "https://"):
		return kindOther
	case strings.Count(s, "@") == 1 && strings.LastIndexByte(s, '.') > strings.IndexByte(s, '@') && !strings.ContainsAny(s, " ,;|\t"):
		return kindOther
	case len(s) == 36 && strings.Count(s, "-") == 4 && strings.Trim(s, "0123456789abcdefABCDEF-") == "":
		return kindOther
	}
	return kindText
}

// spelledNumber is how a number is written.
type spelledNumber struct {
	decimal, thousands rune // 0: it has none
	doubt              bool // one separator with three digits behind it: it may be either
}

// splitNumber knows numbers with decimals and groups of thousands.
func splitNumber(s string) (n spelledNumber, ok bool) {
	if s != "" && (s[0] == '-' || s[0] == '+') {
		s = s[1:]
	}
	type part struct {
		sep    rune
		digits int
	}
	parts := []part{{}}
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		last := &parts[len(parts)-1]
		switch {
		case r >= '0' && r <= '9':
			last.digits++
		case strings.ContainsRune(".,' ’\u00a0\u202f", r):
			parts = append(parts, part{sep: r})
		case (r == 'e' || r == 'E') && last.digits > 0 && exponent(s[i+size:]):
			i, size = len(s), 0
		default:
			return n, false
		}
		i += size
	}
	first, rest := parts[0], parts[1:]
	if first.digits == 0 && (len(rest) != 1 || rest[0].digits == 0) {
		return n, false
	}
	// The last separator may be the decimal one; all others must be of thousands, and alike.
	grouped := func(ps []part) bool {
		for _, p := range ps {
			if p.digits != 3 || p.sep != ps[0].sep {
				return false
			}
		}
		return first.digits >= 1 && first.digits <= 3
	}
	point := func(r rune) bool { return r == '.' || r == ',' }
	switch k := len(rest) - 1; {
	case k < 0:
		return n, true
	case k == 0 && point(rest[0].sep):
		if grouped(rest) && first.digits <= 3 && !strings.HasPrefix(s, "0") {
			n.doubt = true
			return n, true
		}
		n.decimal = rest[0].sep
		return n, rest[0].digits > 0 || first.digits > 0
	case grouped(rest):
		n.thousands = rest[0].sep
		return n, true
	case k > 0 && grouped(rest[:k]) && point(rest[k].sep) && rest[k].sep != rest[0].sep && rest[k].digits > 0:
		n.thousands, n.decimal = rest[0].sep, rest[k].sep
		return n, true
	}
	return n, false
}

func exponent(s string) bool {
	s = strings.TrimLeft(s, "+-")
	return s != "" && len(s) < 4 && strings.Trim(s, "0123456789") == ""
}

// looksLikeTime knows dates of three numbers, times of two or three, and both together.
func looksLikeTime(s string) bool {
	date, clock, both := strings.Cut(strings.Replace(s, "T", " ", 1), " ")
	switch {
	case both:
		return looksLikeDate(date) && looksLikeClock(clock)
	case looksLikeDate(date):
		return true
	}
	return looksLikeClock(date)
}

func looksLikeDate(s string) bool {
	for _, sep := range []string{"-", "/", "."} {
		p := strings.Split(s, sep)
		if len(p) != 3 {
			continue
		}
		a, b, c := len(p[0]), len(p[1]), len(p[2])
		if strings.Trim(strings.Join(p, ""), "0123456789") != "" {
			continue
		}
		return a == 4 && b >= 1 && b <= 2 && c >= 1 && c <= 2 || a >= 1 && a <= 2 && b >= 1 && b <= 2 && (c == 2 || c == 4)
	}
	return false
}

func looksLikeClock(s string) bool {
	s = strings.TrimSuffix(s, "Z")
	if n := strings.LastIndexAny(s, "+-"); n > 4 {
		s = s[:n]
	}
	s, _, _ = strings.Cut(s, ".")
	p := strings.Split(s, ":")
	if len(p) < 2 || len(p) > 3 {
		return false
	}
	for _, x := range p {
		if len(x) != 2 || strings.Trim(x, "0123456789") != "" {
			return false
		}
	}
	return true
}
