// Package heldsum makes the checksum of a position in a table leat_positions. Databases
// do not notice a flipped bit in a value, and a position that is believed decides which
// rows are lost or written twice.
package heldsum

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Of is the checksum of one row of the table: its key, and what is held; some is false
// where that is nothing.
func Of(pipeline, sink, partition string, some bool, next int64, resume, log string) string {
	var b []byte
	for _, s := range []string{pipeline, sink, partition, resume, log} {
		b = append(binary.AppendUvarint(b, uint64(len(s))), s...)
	}
	if some {
		b = binary.AppendVarint(append(b, 1), next)
	}
	return fmt.Sprintf("%08x", crc32.Checksum(b, castagnoli))
}
