// Package craft makes Parquet files that no writer would make, for tests.
package craft

import (
	"encoding/binary"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	"github.com/parquet-go/parquet-go/format"
)

// Chunk is a column of the one row group.
type Chunk struct {
	Name     string
	Type     format.Type
	Length   int32 // of FixedLenByteArray
	Optional bool
	Codec    format.CompressionCodec
	Values   int64
	Unfolded int64 // as the footer says; 0: what the pages' headers say
	Pages    []Page
}

// Page is a header and what follows it.
type Page struct {
	Header format.PageHeader
	Bytes  []byte
}

// Data is a page of so many values, not compressed, whose header is right.
func Data(values int, encoding format.Encoding, b []byte) Page {
	return Page{format.PageHeader{
		Type: format.DataPage, UncompressedPageSize: int32(len(b)), CompressedPageSize: int32(len(b)),
		DataPageHeader: thrift.New(format.DataPageHeader{NumValues: int32(values), Encoding: encoding, DefinitionLevelEncoding: format.RLE, RepetitionLevelEncoding: format.RLE}),
	}, b}
}

// Dictionary is a dictionary page.
func Dictionary(values int, b []byte) Page {
	return Page{format.PageHeader{
		Type: format.DictionaryPage, UncompressedPageSize: int32(len(b)), CompressedPageSize: int32(len(b)),
		DictionaryPageHeader: thrift.New(format.DictionaryPageHeader{NumValues: int32(values), Encoding: format.Plain}),
	}, b}
}

// Zstd compresses the bytes of a page, and says so in its header.
func (p Page) Zstd() Page {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	p.Bytes = z.EncodeAll(p.Bytes, nil)
	p.Header.CompressedPageSize = int32(len(p.Bytes))
	return p
}

// File makes a file of one row group. change, if set, changes the footer at last.
func File(rows int64, change func(m *format.FileMetaData), chunks ...Chunk) []byte {
	var p thrift.CompactProtocol
	b := []byte("PAR1")
	m := format.FileMetaData{Version: 2, NumRows: rows, Schema: []format.SchemaElement{{Name: "schema", NumChildren: thrift.New(int32(len(chunks)))}}}
	g := format.RowGroup{NumRows: rows}
	for _, c := range chunks {
		repetition := format.Required
		if c.Optional {
			repetition = format.Optional
		}
		e := format.SchemaElement{Name: c.Name, Type: thrift.New(c.Type), RepetitionType: thrift.New(repetition)}
		if c.Type == format.FixedLenByteArray {
			e.TypeLength = thrift.New(c.Length)
		}
		m.Schema = append(m.Schema, e)
		meta := format.ColumnMetaData{Type: c.Type, PathInSchema: []string{c.Name}, Codec: c.Codec, NumValues: c.Values, TotalUncompressedSize: c.Unfolded}
		start := int64(len(b))
		meta.DataPageOffset = start
		for i, page := range c.Pages {
			h, err := thrift.Marshal(&p, &page.Header)
			if err != nil {
				panic(err)
			}
			if page.Header.Type == format.DictionaryPage {
				meta.DictionaryPageOffset = int64(len(b))
			} else if i == 1 && c.Pages[0].Header.Type == format.DictionaryPage {
				meta.DataPageOffset = int64(len(b))
			}
			b = append(append(b, h...), page.Bytes...)
			if c.Unfolded == 0 {
				meta.TotalUncompressedSize += int64(len(h)) + int64(page.Header.UncompressedPageSize)
			}
		}
		meta.TotalCompressedSize = int64(len(b)) - start
		g.Columns = append(g.Columns, format.ColumnChunk{FileOffset: start, MetaData: meta})
	}
	m.RowGroups = []format.RowGroup{g}
	if change != nil {
		change(&m)
	}
	footer, err := thrift.Marshal(&p, &m)
	if err != nil {
		panic(err)
	}
	return Footer(b, footer)
}

// Footer puts a footer behind pages.
func Footer(b, footer []byte) []byte {
	b = append(b, footer...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(footer)))
	return append(b, "PAR1"...)
}
