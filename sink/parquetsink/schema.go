package parquetsink

import (
	"errors"
	"fmt"

	"github.com/parquet-go/parquet-go/deprecated"
	"github.com/parquet-go/parquet-go/encoding/thrift"
	thriftformat "github.com/parquet-go/parquet-go/format"
)

// path names a column's values in the schema.
func (c *Column) path() []string {
	if c.List {
		return []string{c.Name, "list", "element"}
	}
	return []string{c.Name}
}

var physicalTypes = [...]thriftformat.Type{
	Boolean: thriftformat.Boolean, Int32: thriftformat.Int32, Int64: thriftformat.Int64, Float32: thriftformat.Float,
	Float64: thriftformat.Double, ByteArray: thriftformat.ByteArray, FixedLenByteArray: thriftformat.FixedLenByteArray,
}

// schemaOf gives the columns in the format's words.
func schemaOf(columns []Column) []thriftformat.SchemaElement {
	out := []thriftformat.SchemaElement{{Name: "schema", NumChildren: thrift.New(int32(len(columns)))}}
	for i := range columns {
		c := &columns[i]
		repetition := thrift.New(thriftformat.Required)
		if c.Null {
			repetition = thrift.New(thriftformat.Optional)
		}
		e := c.element()
		e.Name, e.RepetitionType = c.Name, repetition
		if c.List {
			out = append(out,
				thriftformat.SchemaElement{Name: c.Name, RepetitionType: repetition, NumChildren: thrift.New(int32(1)),
					ConvertedType: thrift.New(deprecated.List), LogicalType: thriftformat.LogicalType{Value: new(thriftformat.ListType)}},
				thriftformat.SchemaElement{Name: "list", RepetitionType: thrift.New(thriftformat.Repeated), NumChildren: thrift.New(int32(1))})
			e.Name, e.RepetitionType = "element", thrift.New(thriftformat.Required)
		}
		out = append(out, e)
	}
	return out
}

// element gives the types of a column's values, old (ConvertedType) and new.
func (c *Column) element() thriftformat.SchemaElement {
	e := thriftformat.SchemaElement{Type: thrift.New(physicalTypes[c.Physical()])}
	if c.Physical() == FixedLenByteArray {
		e.TypeLength = thrift.New(int32(decimalLength))
	}
	switch c.Type {
	case Int:
		e.ConvertedType = thrift.New(map[int]deprecated.ConvertedType{8: deprecated.Int8, 16: deprecated.Int16, 32: deprecated.Int32, 64: deprecated.Int64}[c.Bits])
		e.LogicalType.Value = &thriftformat.IntType{BitWidth: int8(c.Bits), IsSigned: true}
	case Uint:
		e.ConvertedType = thrift.New(map[int]deprecated.ConvertedType{8: deprecated.Uint8, 16: deprecated.Uint16, 32: deprecated.Uint32, 64: deprecated.Uint64}[c.Bits])
		e.LogicalType.Value = &thriftformat.IntType{BitWidth: int8(c.Bits)}
	case String:
		e.ConvertedType = thrift.New(deprecated.UTF8)
		e.LogicalType.Value = new(thriftformat.StringType)
	case Timestamp:
		e.ConvertedType = thrift.New(deprecated.TimestampMicros)
		e.LogicalType.Value = &thriftformat.TimestampType{IsAdjustedToUTC: true, Unit: thriftformat.TimeUnit{Value: new(thriftformat.MicroSeconds)}}
	case Decimal:
		e.ConvertedType = thrift.New(deprecated.Decimal)
		e.Precision, e.Scale = thrift.New(int32(c.Precision)), thrift.New(int32(c.Scale))
		e.LogicalType.Value = &thriftformat.DecimalType{Precision: int32(c.Precision), Scale: int32(c.Scale)}
	}
	return e
}

// columnsOf is the reverse of schemaOf, for files of any engine.
func columnsOf(schema []thriftformat.SchemaElement) ([]Column, error) {
	var out []Column
	strange := func(e *thriftformat.SchemaElement) error {
		return fmt.Errorf("column %s is of a type that parquetsink does not write", e.Name)
	}
	for i := 1; i < len(schema); i++ {
		e := &schema[i]
		name, null, list := e.Name, e.RepetitionType.V == thriftformat.Optional, false
		if e.NumChildren.V > 0 {
			if i+2 >= len(schema) || e.NumChildren.V != 1 || schema[i+1].NumChildren.V != 1 || schema[i+1].RepetitionType.V != thriftformat.Repeated ||
				schema[i+2].NumChildren.V != 0 || schema[i+2].RepetitionType.V != thriftformat.Required {
				return nil, strange(e)
			}
			list = true
			i += 2
		} else if e.RepetitionType.V == thriftformat.Repeated {
			return nil, strange(e)
		}
		c, ok := columnOf(&schema[i])
		if !ok {
			return nil, strange(e)
		}
		c.Name, c.Null, c.List = name, null, list
		out = append(out, c)
	}
	if len(out) == 0 {
		return nil, errors.New("the file has no columns")
	}
	return out, nil
}

// columnOf gives the type of a column by its element in the schema.
func columnOf(e *thriftformat.SchemaElement) (c Column, ok bool) {
	switch t := e.LogicalType.Value.(type) {
	case *thriftformat.IntType:
		c = Column{Type: Uint, Bits: int(t.BitWidth)}
		if t.IsSigned {
			c.Type = Int
		}
	case *thriftformat.StringType:
		c.Type = String
	case *thriftformat.TimestampType:
		c.Type = Timestamp
		if _, micros := t.Unit.Value.(*thriftformat.MicroSeconds); !micros || !t.IsAdjustedToUTC {
			return c, false
		}
	case *thriftformat.DecimalType:
		c = Column{Type: Decimal, Precision: int(t.Precision), Scale: int(t.Scale)}
	case nil:
		switch e.Type.V {
		case thriftformat.Boolean:
			c.Type = Bool
		case thriftformat.Float:
			c.Type = Float
		case thriftformat.Double:
			c.Type = Double
		case thriftformat.ByteArray:
			c.Type = Bytes
		default:
			return c, false
		}
	default:
		return c, false
	}
	return c, physicalTypes[c.Physical()] == e.Type.V && (c.Physical() != FixedLenByteArray || e.TypeLength.V == decimalLength)
}
