package protocodec

import (
	"errors"
	"strings"
)

// scanner finds the messages in the text of a .proto file, and nothing else: what fields are is
// the generated message's matter.
type scanner struct {
	text string
	at   int
}

var (
	errText = errors.New("the text ends in the middle")
	errDeep = errors.New("messages lie too deep in each other")
)

// next gives a token: a word (with its dots), a sign, or `"` for any string; "" at the end.
func (s *scanner) next() (string, error) {
	for s.at < len(s.text) {
		rest := s.text[s.at:]
		c := rest[0]
		switch {
		case c == ' ' || c >= '\t' && c <= '\r':
			s.at++
		case strings.HasPrefix(rest, "//"):
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			s.at += end
		case strings.HasPrefix(rest, "/*"):
			end := strings.Index(rest[2:], "*/")
			if end < 0 {
				return "", errText
			}
			s.at += end + 4
		case c == '"' || c == '\'':
			for i := 1; ; i++ {
				if i >= len(rest) {
					return "", errText
				}
				if rest[i] == '\\' {
					i++
				} else if rest[i] == c {
					s.at += i + 1
					return `"`, nil
				}
			}
		case word(c):
			n := 1
			for n < len(rest) && word(rest[n]) {
				n++
			}
			s.at += n
			return rest[:n], nil
		default:
			s.at++
			return rest[:1], nil
		}
	}
	return "", nil
}

func word(c byte) bool {
	return c == '_' || c == '.' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// body reads statements up to the } of a message (depth > 0) or the end of the file, and
// adds the messages among them to list.
func (s *scanner) body(f *file, list *[]message, depth int) error {
	if depth > maxIndexes {
		return errDeep
	}
	for {
		first, err := s.next()
		switch {
		case err != nil:
			return err
		case first == "" && depth > 0:
			return errText
		case first == "" || first == "}":
			return nil
		case first == ";":
			continue
		}
		if err := s.statement(f, list, depth, first); err != nil {
			return err
		}
	}
}

// statement reads one from its second token on: to its ;, or to the } of its block.
func (s *scanner) statement(f *file, list *[]message, depth int, first string) error {
	words := []string{first} // as many as tell what it is
	brackets := 0
	for {
		tok, err := s.next()
		switch {
		case err != nil:
			return err
		case tok == "":
			return errText
		case tok == ";" && brackets == 0:
			if first == "package" && depth == 0 && len(words) == 2 {
				f.pkg = words[1]
			}
			return nil
		case tok == "[" || tok == "(":
			brackets++
		case tok == "]" || tok == ")":
			brackets--
		case tok == "{" && brackets > 0:
			if err := s.skip(); err != nil {
				return err
			}
		case tok == "{":
			return s.block(f, list, depth, words)
		case tok == "}" && brackets == 0:
			return errText
		case tok == "<" && first == "map" && len(words) == 1:
			*list = append(*list, message{hidden: true})
		}
		if len(words) < 4 {
			words = append(words, tok)
		}
	}
}

// block reads what a statement has in braces.
func (s *scanner) block(f *file, list *[]message, depth int, words []string) error {
	name, hidden := "", false
	if (words[0] == "export" || words[0] == "local") && len(words) > 2 { // edition 2024
		words = words[1:]
	}
	switch {
	case words[0] == "message" && len(words) == 2:
		name = words[1]
	case words[0] == "oneof" || words[0] == "extend":
		return s.body(f, list, depth+1) // groups in it are of the message around
	case words[0] == "group" && len(words) > 1:
		name, hidden = words[1], true
	case len(words) > 2 && words[1] == "group":
		name, hidden = words[2], true
	default:
		return s.skip()
	}
	m := message{name: name, hidden: hidden}
	if err := s.body(f, &m.nested, depth+1); err != nil {
		return err
	}
	*list = append(*list, m)
	return nil
}

// skip reads to the } that belongs to a { just read.
func (s *scanner) skip() error {
	for open := 1; open > 0; {
		tok, err := s.next()
		switch {
		case err != nil:
			return err
		case tok == "":
			return errText
		case tok == "{":
			open++
		case tok == "}":
			open--
		}
	}
	return nil
}
