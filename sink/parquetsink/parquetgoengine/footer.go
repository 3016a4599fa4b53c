package parquetgoengine

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	thriftformat "github.com/parquet-go/parquet-go/format"
)

// closeWithout closes a writer whose row groups are flushed, and leaves the
// smallest and largest value and the column index out of the footer for columns
// without bounds. parquet-go writes "" to "" as the bounds of each page of columns
// that it takes none of, and a reader that believes it (Spark does) finds no row
// there.
//
// out must be what w writes to, without a buffer between.
func closeWithout(w *parquet.GenericWriter[any], out *countingWriter, unbounded func(group int, path []string) bool) error {
	base := out.n
	file := out.w
	var tail bytes.Buffer // indexes and footer; a few KiB for each row group
	out.w = &tail
	err := w.Close()
	out.w, out.n = file, base
	if err != nil {
		return err
	}
	if base == 0 { // a file without rows, and so without indexes
		_, err := out.Write(tail.Bytes())
		return err
	}
	const trailer = 8 // length of the footer and "PAR1"
	b := tail.Bytes()
	size := 0
	if len(b) >= trailer {
		size = int(binary.LittleEndian.Uint32(b[len(b)-trailer:]))
	}
	start := len(b) - trailer - size
	if size == 0 || start < 0 {
		return fmt.Errorf("parquet-go wrote a footer of %d bytes in %d", size, len(b))
	}
	var meta thriftformat.FileMetaData
	protocol := new(thrift.CompactProtocol)
	if err := thrift.Unmarshal(protocol, b[start:start+size], &meta); err != nil {
		return fmt.Errorf("the footer that parquet-go wrote can't be read: %w", err)
	}
	// Column indexes come first, then offset indexes. What stays is moved up:
	// parquet-go's reader takes each of the two sections to have no gaps.
	var kept []byte
	section := func(of func(group int, c *thriftformat.ColumnChunk) (offset *int64, length *int32)) error {
		for i := range meta.RowGroups {
			for j := range meta.RowGroups[i].Columns {
				offset, length := of(i, &meta.RowGroups[i].Columns[j])
				if *length == 0 {
					continue
				}
				from := *offset - base
				to := from + int64(*length)
				if from < 0 || to < from || to > int64(start) {
					return fmt.Errorf("parquet-go wrote an index of %d bytes at %d, outside of the file's end", *length, *offset)
				}
				*offset = base + int64(len(kept))
				kept = append(kept, b[from:to]...)
			}
		}
		return nil
	}
	if err := section(func(group int, c *thriftformat.ColumnChunk) (*int64, *int32) {
		if unbounded(group, c.MetaData.PathInSchema) {
			c.ColumnIndexOffset, c.ColumnIndexLength = 0, 0
			c.MetaData.Statistics.MinValue, c.MetaData.Statistics.MaxValue = nil, nil
		}
		return &c.ColumnIndexOffset, &c.ColumnIndexLength
	}); err != nil {
		return err
	}
	if err := section(func(_ int, c *thriftformat.ColumnChunk) (*int64, *int32) {
		return &c.OffsetIndexOffset, &c.OffsetIndexLength
	}); err != nil {
		return err
	}
	footer, err := thrift.Marshal(protocol, &meta)
	if err != nil {
		return err
	}
	end := binary.LittleEndian.AppendUint32(footer, uint32(len(footer)))
	end = append(end, "PAR1"...)
	_, err1 := out.Write(kept)
	_, err2 := out.Write(end)
	return errors.Join(err1, err2)
}

// nanGroups notes which columns of which row groups hold a NaN. Those get no bounds:
// a NaN is outside of any, and a reader that goes by them (DuckDB takes NaN to be the
// largest number) would miss its row.
type nanGroups struct {
	now   []bool   // by column, of the open row group; nil: none yet
	ended [][]bool // of the others
}

// add notes a NaN in one of so many columns.
func (g *nanGroups) add(column, columns int) {
	if g.now == nil {
		g.now = make([]bool, columns)
	}
	g.now[column] = true
}

// end is called when the row group ends.
func (g *nanGroups) end() {
	g.ended = append(g.ended, g.now)
	g.now = nil
}

func (g *nanGroups) has(group, column int) bool {
	return column >= 0 && g.ended[group] != nil && g.ended[group][column]
}
