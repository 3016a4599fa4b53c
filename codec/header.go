package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderSize is the size of the header, without what Protobuf adds.
const HeaderSize = 5

// AppendHeader appends the header of a value with this schema.
func AppendHeader(dst []byte, id int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 0), uint32(id))
}

// ErrTombstone is what codecs give for a record without a value (nil): it says that its key is
// deleted, and is no row.
var ErrTombstone = errors.New("the record has no value: it is a tombstone, which says that its key is deleted")

var errShort = errors.New("the value is shorter than the 5 bytes of the schema registry's header: was it written without a registry?")

// CutHeader takes the header off.
func CutHeader(value []byte) (id int, rest []byte, err error) {
	if len(value) < HeaderSize {
		return 0, nil, errShort
	}
	if value[0] != 0 {
		return 0, nil, fmt.Errorf("the value begins with the byte %#x, not with the 0 of the schema registry's header: was it written without a registry?", value[0])
	}
	return int(binary.BigEndian.Uint32(value[1:])), value[HeaderSize:], nil
}
