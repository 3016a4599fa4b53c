package stage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"
	"unsafe"

	"github.com/dchest/siphash"

	"github.com/leatgo/leat/internal/keyset"
)

// keyBytes makes bytes of a key: equal keys give equal bytes, different keys of the type
// different ones, on every machine.
type keyBytes struct {
	parts []keyPart
	shape string // of the type; with another one the same key gives other bytes
}

// keyPart is a piece of a key that is not made of others.
type keyPart struct {
	kind keyKind
	at   uintptr // in the key
	size uintptr
}

type keyKind uint8

const (
	keyString keyKind = iota // as it is when it is the whole key, else with its length before it
	keyRaw                   // an array of bytes
	keyInt                   // 8 bytes, little-endian, as is keyUint
	keyUint
)

// keyBytesOf looks at the type of keys.
func keyBytesOf[K any]() (*keyBytes, error) {
	b := &keyBytes{}
	shape, err := b.add(reflect.TypeFor[K](), 0)
	b.shape = shape
	if err == nil && len(b.parts) == 0 {
		err = errors.New("a value of it says nothing: all keys would be equal")
	}
	return b, err
}

func (b *keyBytes) add(t reflect.Type, at uintptr) (shape string, err error) {
	part := func(kind keyKind) { b.parts = append(b.parts, keyPart{kind, at, t.Size()}) }
	if t == reflect.TypeFor[time.Time]() {
		return "", errors.New("time.Time can't be part of a key, as two of one moment may differ: take its UnixNano")
	}
	switch t.Kind() {
	case reflect.String:
		part(keyString)
		return "string", nil
	case reflect.Bool, reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		part(keyUint)
		return "uint", nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		part(keyInt)
		return "int", nil
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 && t.Len() > 0 {
			part(keyRaw)
			return fmt.Sprintf("[%d]byte", t.Len()), nil
		}
		if t.Len() > 64 {
			return "", fmt.Errorf("%s has too many elements", t)
		}
		for i := range t.Len() {
			if shape, err = b.add(t.Elem(), at+uintptr(i)*t.Elem().Size()); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("[%d]%s", t.Len(), shape), nil
	case reflect.Struct:
		var shapes []string
		for f := range t.Fields() {
			if f.Name == "_" { // == leaves it out as well
				continue
			}
			shape, err := b.add(f.Type, at+f.Offset)
			if err != nil {
				return "", fmt.Errorf("field %s: %w", f.Name, err)
			}
			shapes = append(shapes, shape)
		}
		return "{" + strings.Join(shapes, " ") + "}", nil
	}
	return "", fmt.Errorf("%s can't be part of a key: strings, integers, booleans, and arrays and structs of them can", t)
}

// appendTo appends the key at p, which is not a lone string or array, to dst.
func (b *keyBytes) appendTo(dst []byte, p unsafe.Pointer) []byte {
	for i := range b.parts {
		at := &b.parts[i]
		p := unsafe.Add(p, at.at)
		switch at.kind {
		case keyString:
			s := *(*string)(p)
			dst = append(binary.AppendUvarint(dst, uint64(len(s))), s...)
		case keyRaw:
			dst = append(dst, unsafe.Slice((*byte)(p), at.size)...)
		case keyInt:
			dst = binary.LittleEndian.AppendUint64(dst, uint64(signedAt(p, at.size)))
		case keyUint:
			dst = binary.LittleEndian.AppendUint64(dst, unsignedAt(p, at.size))
		}
	}
	return dst
}

func signedAt(p unsafe.Pointer, size uintptr) int64 {
	switch size {
	case 1:
		return int64(*(*int8)(p))
	case 2:
		return int64(*(*int16)(p))
	case 4:
		return int64(*(*int32)(p))
	}
	return *(*int64)(p)
}

func unsignedAt(p unsafe.Pointer, size uintptr) uint64 {
	switch size {
	case 1:
		return uint64(*(*uint8)(p))
	case 2:
		return uint64(*(*uint16)(p))
	case 4:
		return uint64(*(*uint32)(p))
	}
	return *(*uint64)(p)
}

// keySeed is the secret of a partition's hashes. Who does not know it can't make two keys
// that collide, whatever he sends (rule C3).
type keySeed struct{ a, b uint64 }

// hash gives the key at p as 128 bits: by SipHash-2-4, so the chance that among a billion
// keys any two collide is one in 10^21. buf is for the bytes, and is given back.
func (b *keyBytes) hash(seed keySeed, p unsafe.Pointer, buf []byte) (keyset.Key, []byte) {
	var data []byte
	first := &b.parts[0]
	switch {
	case len(b.parts) > 1 || first.kind > keyRaw:
		buf = b.appendTo(buf[:0], p)
		data = buf
	case first.kind == keyString:
		s := *(*string)(unsafe.Add(p, first.at))
		data = unsafe.Slice(unsafe.StringData(s), len(s))
	default:
		data = unsafe.Slice((*byte)(unsafe.Add(p, first.at)), first.size)
	}
	var k keyset.Key
	k.Hi, k.Lo = siphash.Hash128(seed.a, seed.b, data)
	if k == (keyset.Key{}) { // stands for "none"
		k.Lo = 1
	}
	return k, buf
}
