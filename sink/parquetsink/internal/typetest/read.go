package typetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
	"github.com/shopspring/decimal"
	"github.com/stretchr/testify/require"
)

// Read reads a file with parquet-go, in the form of Row.Want.
func Read(t testing.TB, file []byte) [][]any {
	t.Helper()
	f, err := parquet.OpenFile(bytes.NewReader(file), int64(len(file)))
	require.NoError(t, err)
	var out [][]any
	for _, g := range f.RowGroups() {
		out = append(out, readGroup(t, f, g)...)
	}
	require.EqualValues(t, f.NumRows(), len(out))
	return out
}

func readGroup(t testing.TB, f *parquet.File, g parquet.RowGroup) (out [][]any) {
	t.Helper()
	fields := f.Root().Columns()
	rows := g.Rows()
	defer rows.Close()
	buf := make([]parquet.Row, 100)
	for {
		n, err := rows.ReadRows(buf)
		for _, row := range buf[:n] {
			r := make([]any, len(fields))
			row.Range(func(i int, values []parquet.Value) bool {
				c := fields[i]
				leaf, level := c, 0
				if !c.Leaf() {
					leaf = c.Columns()[0].Columns()[0]
				}
				if c.Optional() {
					level = 1
				}
				switch {
				case values[0].IsNull() && c.Optional() && values[0].DefinitionLevel() == 0:
					r[i] = nil
				case c.Leaf():
					r[i] = Text(leaf.Type(), values[0])
				default:
					list := []any{}
					for _, v := range values {
						if v.DefinitionLevel() > level {
							list = append(list, Text(leaf.Type(), v))
						}
					}
					r[i] = list
				}
				return true
			})
			out = append(out, r)
		}
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
	}
}

// Text gives a value as Row.Want does.
func Text(typ parquet.Type, v parquet.Value) string {
	if lt := typ.LogicalType(); lt != nil {
		switch l := lt.Value.(type) {
		case *format.DecimalType:
			return Unscaled(typ.Kind(), v, int32(l.Scale))
		case *format.StringType:
			return string(v.ByteArray())
		case *format.IntType:
			if !l.IsSigned {
				if l.BitWidth <= 32 {
					return strconv.FormatUint(uint64(v.Uint32()), 10)
				}
				return strconv.FormatUint(v.Uint64(), 10)
			}
		}
	}
	switch typ.Kind() {
	case parquet.Boolean:
		return Bool(v.Boolean())
	case parquet.Int32:
		return Int(v.Int32())
	case parquet.Int64:
		return Int(v.Int64())
	case parquet.Float:
		return Float(v.Float())
	case parquet.Double:
		return Float(v.Double())
	case parquet.ByteArray:
		return Bytes(v.ByteArray())
	}
	panic(fmt.Sprintf("no text for %v", typ))
}

// Unscaled gives a decimal with all digits of its scale.
func Unscaled(kind parquet.Kind, v parquet.Value, scale int32) string {
	switch kind {
	case parquet.Int32:
		return decimal.New(int64(v.Int32()), -scale).StringFixed(scale)
	case parquet.Int64:
		return decimal.New(v.Int64(), -scale).StringFixed(scale)
	}
	return BigEndian(v.ByteArray(), scale)
}

// BigEndian reads two's complement.
func BigEndian(b []byte, scale int32) string {
	n := new(big.Int).SetBytes(b)
	if b[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(b))))
	}
	return decimal.NewFromBigInt(n, -scale).StringFixed(scale)
}
