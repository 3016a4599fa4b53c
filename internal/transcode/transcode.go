// Package transcode reads text of older encodings as UTF-8, and gives back the bytes that
// it was made from.
//
// Nothing is replaced: what an encoding has no character for becomes bytes that are no valid
// UTF-8, so that whoever checks the text finds it, and only that record is refused. All of these
// bytes have the high bit set, so none is taken for a line end or a delimiter. They are: a
// surrogate without its other half in the three bytes that UTF-8 would need for it, the odd last byte
// of a UTF-16 text as 0xFF and two bytes of four bits each, and a byte without a meaning as itself.
// [Encode] turns text and such bytes into what they were.
//
// (golang.org/x/text/encoding puts U+FFFD in all these places, which can't be told
// from a U+FFFD of the text itself, nor turned back.)
package transcode

import (
	"encoding/binary"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// Encoding is how characters are written as bytes.
type Encoding uint8

// The encodings. A byte order mark is a character like others: it is not looked for.
const (
	UTF8 Encoding = iota
	UTF16LE
	UTF16BE
	Latin1 // ISO 8859-1: the byte is the character's number
	Windows1252
)

// Growth is how many bytes of UTF-8 may come of one byte, at most.
const Growth = 3

// upper are the characters of Windows-1252 from 0x80 to 0x9F; 0: there is none.
var upper = [32]rune{
	'€', 0, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', 0, 'Ž', 0,
	0, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', 0, 'ž', 'Ÿ',
}

// Defined tells whether the encoding has a character for the byte b; of UTF-8 and UTF-16
// that is not a question of one byte.
func (e Encoding) Defined(b byte) bool {
	return e != Windows1252 || b < 0x80 || b > 0x9f || upper[b-0x80] != 0
}

// Reader gives the text that r holds in e, as UTF-8. The text does not depend on the sizes
// in which it is read. Errors are those of r, after all the text before them.
func (e Encoding) Reader(r io.Reader) io.Reader {
	if e == UTF8 {
		return r
	}
	return &reader{e: e, r: r, buf: make([]byte, 32<<10)}
}

type reader struct {
	e       Encoding
	r       io.Reader
	buf     []byte // buf[lo:hi] was read and not yet decoded
	lo, hi  int
	err     error // what reading ended with
	small   [8]byte
	pending []byte // of small: what was decoded and found no place
}

func (r *reader) Read(p []byte) (int, error) {
	for {
		if len(r.pending) > 0 || len(p) == 0 {
			n := copy(p, r.pending)
			r.pending = r.pending[n:]
			return n, nil
		}
		n, used := r.e.decode(p, r.buf[r.lo:r.hi], r.err == io.EOF)
		r.lo += used
		if n > 0 {
			return n, nil
		}
		if len(p) < utf8.UTFMax {
			n, used := r.e.decode(r.small[:utf8.UTFMax], r.buf[r.lo:r.hi], r.err == io.EOF)
			r.lo += used
			if r.pending = r.small[:n]; n > 0 {
				continue
			}
		}
		if r.err != nil {
			return 0, r.err
		}
		r.hi = copy(r.buf, r.buf[r.lo:r.hi])
		r.lo = 0
		if n, r.err = r.r.Read(r.buf[r.hi:]); n == 0 && r.err == nil {
			return 0, nil
		}
		r.hi += n
	}
}

// Decode appends the text of src, which is all there is.
func (e Encoding) Decode(dst, src []byte) []byte {
	if e == UTF8 {
		return append(dst, src...)
	}
	for len(src) > 0 {
		var part [512]byte
		n, used := e.decode(part[:], src, true)
		dst, src = append(dst, part[:n]...), src[used:]
	}
	return dst
}

const highs = 0x8080808080808080

// decode decodes as many whole characters of src as there is place for in dst, and tells
// how much it has written and read. eof says that nothing follows src.
func (e Encoding) decode(dst, src []byte, eof bool) (n, used int) {
	switch e {
	case Latin1, Windows1252:
		return e.bytes(dst, src)
	case UTF16BE:
		return decode16(dst, src, eof, 8)
	}
	return decode16(dst, src, eof, 0)
}

func (e Encoding) bytes(dst, src []byte) (n, used int) {
	for used < len(src) {
		for len(src)-used >= 8 && len(dst)-n >= 8 {
			w := binary.LittleEndian.Uint64(src[used:])
			if w&highs != 0 {
				break
			}
			binary.LittleEndian.PutUint64(dst[n:], w)
			n += 8
			used += 8
		}
		if used == len(src) || n == len(dst) {
			break
		}
		b := src[used]
		r := rune(b)
		if e == Windows1252 && b >= 0x80 && b <= 0x9f {
			r = upper[b-0x80]
		}
		switch {
		case r < utf8.RuneSelf: // or b has no meaning: as itself it continues nothing
			dst[n] = b
			n++
		case len(dst)-n < utf8.RuneLen(r):
			return n, used
		default:
			n += utf8.EncodeRune(dst[n:], r)
		}
		used++
	}
	return n, used
}

const (
	surrogate    = 0xd800
	surrogateLow = 0xdc00
	surrogateEnd = 0xe000
)

// decode16 is decode of UTF-16; swap is 8 when the high byte comes first.
func decode16(dst, src []byte, eof bool, swap uint) (n, used int) {
	unit := func(i int) rune {
		u := uint(src[i]) | uint(src[i+1])<<8
		if swap != 0 {
			u = u>>8 | u&0xff<<8
		}
		return rune(u)
	}
	for {
		for len(src)-used >= 8 && len(dst)-n >= 4 { // four of ASCII
			w := binary.LittleEndian.Uint64(src[used:]) >> swap
			if w&(0xff80ff80ff80ff80) != 0 || swap != 0 && src[used] != 0 {
				break
			}
			dst[n], dst[n+1], dst[n+2], dst[n+3] = byte(w), byte(w>>16), byte(w>>32), byte(w>>48)
			n += 4
			used += 8
		}
		left := len(src) - used
		if left < 2 {
			if left == 1 && eof && len(dst)-n >= 3 {
				b := src[used]
				dst[n], dst[n+1], dst[n+2] = 0xff, 0x80|b>>4, 0x80|b&15
				return n + 3, used + 1
			}
			return n, used
		}
		r := unit(used)
		if r < utf8.RuneSelf {
			if n == len(dst) {
				return n, used
			}
			dst[n] = byte(r)
			n++
			used += 2
			continue
		}
		size := 2
		lone := r >= surrogate && r < surrogateEnd
		if lone && r < surrogateLow {
			if left < 4 && !eof {
				return n, used
			}
			if left >= 4 {
				if pair := utf16.DecodeRune(r, unit(used+2)); pair != utf8.RuneError {
					r, size, lone = pair, 4, false
				}
			}
		}
		if lone {
			if len(dst)-n < 3 {
				return n, used
			}
			dst[n], dst[n+1], dst[n+2] = 0xed, 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f
			n += 3
		} else {
			if len(dst)-n < utf8.RuneLen(r) {
				return n, used
			}
			n += utf8.EncodeRune(dst[n:], r)
		}
		used += size
	}
}

// Encode appends the bytes that text was made from, which is a part of what a
// Reader gave, cut between characters.
func (e Encoding) Encode(dst, text []byte) []byte {
	if e == UTF8 {
		return append(dst, text...)
	}
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		bad := r == utf8.RuneError && size == 1
		switch {
		case e == Latin1 && !bad:
			dst = append(dst, byte(r))
		case e == Latin1 || e == Windows1252:
			dst = append(dst, e.byteOf(r, text[0], bad))
		case bad && text[0] == 0xff && len(text) >= 3:
			dst, size = append(dst, text[1]<<4|text[2]&15), 3
		case bad && text[0] == 0xed && len(text) >= 3:
			dst, size = e.append16(dst, 0xd000|uint16(text[1]&0x3f)<<6|uint16(text[2]&0x3f)), 3
		case r >= 0x10000:
			high, low := utf16.EncodeRune(r)
			dst = e.append16(e.append16(dst, uint16(high)), uint16(low))
		default:
			dst = e.append16(dst, uint16(r))
		}
		text = text[size:]
	}
	return dst
}

func (e Encoding) byteOf(r rune, b byte, bad bool) byte {
	if bad || r < 0x100 {
		if bad {
			return b
		}
		return byte(r)
	}
	for i, u := range upper {
		if u == r {
			return byte(0x80 + i)
		}
	}
	return '?' // no text that was made from it
}

func (e Encoding) append16(dst []byte, u uint16) []byte {
	if e == UTF16BE {
		return binary.BigEndian.AppendUint16(dst, u)
	}
	return binary.LittleEndian.AppendUint16(dst, u)
}
