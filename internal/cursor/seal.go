package cursor

import (
	"errors"
	"fmt"
	"hash/crc32"
)

// seal adds a checksum: a position lies in databases that don't notice a flipped bit, and
// one that is believed would lose rows or read them twice.
func seal(js []byte) string {
	return fmt.Sprintf("%s#%08x", js, crc32.Checksum(js, castagnoli))
}

func unseal(text string) ([]byte, error) {
	n := len(text) - len("#01234567")
	if n < 0 {
		return nil, errors.New("it is cut off")
	}
	if seal([]byte(text[:n])) != text {
		return nil, errors.New("its checksum is wrong")
	}
	return []byte(text[:n]), nil
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)
