package parquetread

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// The types of Thrift's compact protocol, as far as they are told apart.
const (
	thriftTrue   = 1
	thriftFalse  = 2
	thriftByte   = 3
	thriftI16    = 4
	thriftI32    = 5
	thriftI64    = 6
	thriftDouble = 7
	thriftBinary = 8
	thriftList   = 9
	thriftSet    = 10
	thriftMap    = 11
	thriftStruct = 12
	thriftUUID   = 13
)

// maxNesting is how deep structures may lie in each other: the format needs seven.
const maxNesting = 32

var errThrift = errors.New("it ends in the middle, or is no Thrift")

// thrift reads the compact protocol from bytes. After the first error it stands at the
// end, so that loops over it end too. It allocates nothing: texts are views.
type thrift struct {
	b     []byte
	at    int
	depth int
	err   error
}

func (t *thrift) fail(err error) {
	if t.err == nil {
		t.err = err
	}
	t.at = len(t.b)
}

func (t *thrift) byte() byte {
	if t.at >= len(t.b) {
		t.fail(errThrift)
		return 0
	}
	t.at++
	return t.b[t.at-1]
}

func (t *thrift) uvarint() uint64 {
	v, n := binary.Uvarint(t.b[t.at:])
	if n <= 0 {
		t.fail(errThrift)
		return 0
	}
	t.at += n
	return v
}

// int reads a signed number of any width.
func (t *thrift) int() int64 {
	v := t.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}

func (t *thrift) int32() int32 {
	v := t.int()
	if v != int64(int32(v)) {
		t.fail(fmt.Errorf("the number %d has more than 32 bits", v))
		return 0
	}
	return int32(v)
}

func (t *thrift) bytes() []byte {
	n := t.uvarint()
	if n > uint64(len(t.b)-t.at) {
		t.fail(errThrift)
		return nil
	}
	t.at += int(n)
	return t.b[t.at-int(n) : t.at : t.at]
}

func (t *thrift) text() string { return string(t.bytes()) }

// fields calls do for each field of a structure, which must read its value or skip it.
func (t *thrift) fields(do func(id int16, typ byte)) {
	if t.depth++; t.depth > maxNesting {
		t.fail(errors.New("its structures are nested too deep"))
	}
	id := int16(0)
	for t.err == nil {
		head := t.byte()
		typ := head & 15
		if typ == 0 {
			break
		}
		if delta := head >> 4; delta != 0 {
			id += int16(delta)
		} else {
			id = int16(t.int())
		}
		do(id, typ)
	}
	t.depth--
}

// list calls do for each element, and gives the number of those that were read. Every
// element has a byte at least, so that a lying size ends at the end of the bytes.
func (t *thrift) list(want byte, do func()) {
	head := t.byte()
	n := uint64(head >> 4)
	if n == 15 {
		n = t.uvarint()
	}
	if n > uint64(len(t.b)-t.at) {
		t.fail(errThrift)
		return
	}
	if typ := head & 15; typ != want && n > 0 {
		t.fail(fmt.Errorf("a list is of type %d instead of %d", typ, want))
		return
	}
	for range n {
		if t.err != nil {
			return
		}
		do()
	}
}

// skip passes over a value.
func (t *thrift) skip(typ byte) { t.skipIn(typ, true) }

// skipIn knows that a bool has its value in a field's type, but a byte of its own in
// a list.
func (t *thrift) skipIn(typ byte, field bool) {
	switch typ {
	case thriftTrue, thriftFalse:
		if !field {
			t.byte()
		}
	case thriftByte:
		t.byte()
	case thriftI16, thriftI32, thriftI64:
		t.uvarint()
	case thriftDouble:
		t.pass(8)
	case thriftUUID:
		t.pass(16)
	case thriftBinary:
		t.bytes()
	case thriftStruct:
		t.fields(func(_ int16, typ byte) { t.skip(typ) })
	case thriftList, thriftSet:
		if t.depth++; t.depth > maxNesting {
			t.fail(errors.New("its structures are nested too deep"))
			return
		}
		if t.at < len(t.b) {
			elem := t.b[t.at] & 15
			t.list(elem, func() { t.skipIn(elem, false) })
		} else {
			t.fail(errThrift)
		}
		t.depth--
	case thriftMap:
		if t.depth++; t.depth > maxNesting {
			t.fail(errors.New("its structures are nested too deep"))
			return
		}
		if n := t.uvarint(); n > uint64(len(t.b)-t.at) {
			t.fail(errThrift)
		} else if n > 0 {
			types := t.byte()
			for range n {
				if t.err != nil {
					break
				}
				t.skipIn(types>>4, false)
				t.skipIn(types&15, false)
			}
		}
		t.depth--
	default:
		t.fail(errThrift)
	}
}

func (t *thrift) pass(n int) {
	if n > len(t.b)-t.at {
		t.fail(errThrift)
		return
	}
	t.at += n
}
