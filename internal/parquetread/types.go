package parquetread

import "fmt"

// The unions' fields of LogicalType, and the numbers of ConvertedType.
const (
	logicalString    = 1
	logicalMap       = 2
	logicalList      = 3
	logicalEnum      = 4
	logicalDecimal   = 5
	logicalDate      = 6
	logicalTime      = 7
	logicalTimestamp = 8
	logicalInt       = 10
	logicalUnknown   = 11
	logicalJSON      = 12
	logicalBSON      = 13
	logicalUUID      = 14
	logicalFloat16   = 15

	convertedUTF8            = 0
	convertedMap             = 1
	convertedMapKeyValue     = 2
	convertedList            = 3
	convertedEnum            = 4
	convertedDecimal         = 5
	convertedDate            = 6
	convertedTimeMillis      = 7
	convertedTimeMicros      = 8
	convertedTimestampMillis = 9
	convertedTimestampMicros = 10
	convertedUint8           = 11
	convertedUint16          = 12
	convertedUint32          = 13
	convertedUint64          = 14
	convertedInt8            = 15
	convertedInt16           = 16
	convertedInt32           = 17
	convertedInt64           = 18
	convertedJSON            = 19
	convertedBSON            = 20
	convertedInterval        = 21
)

// meaning is what values are.
type meaning uint8

const (
	isBool meaning = iota
	isInt
	isUint
	isFloat16
	isFloat
	isDouble
	isString
	isBytes
	isUUID
	isDate
	isTimestamp
	isTime
	isDecimal
	isInt96
	isNull // of a column that only has nulls
)

const (
	millis = 1
	micros = 2
	nanos  = 3
)

var unitNames = [...]string{millis: "ms", micros: "us", nanos: "ns"}

// meaningOf reads the annotations of a leaf, new or old, and names its type. One that
// does not fit how the values are stored is damage.
func meaningOf(e *element) (t leafType, name string, err error) {
	t = leafType{phys: e.phys, length: e.length}
	if e.phys == physFixed && (e.length < 1 || e.length > 1<<20) {
		return t, "", damagef("its values are of %d bytes", e.length)
	}
	plain := func(m meaning, name string) (leafType, string, error) {
		t.meaning = m
		return t, name, nil
	}
	l := e.logical
	switch { // the old annotations are the same as new ones
	case l.kind != 0:
	case e.converted == convertedUTF8:
		l.kind = logicalString
	case e.converted == convertedEnum:
		l.kind = logicalEnum
	case e.converted == convertedJSON:
		l.kind = logicalJSON
	case e.converted == convertedBSON:
		l.kind = logicalBSON
	case e.converted == convertedDecimal:
		l.kind, l.scale, l.precision = logicalDecimal, e.scale, e.precision
	case e.converted == convertedDate:
		l.kind = logicalDate
	case e.converted == convertedTimeMillis || e.converted == convertedTimeMicros:
		l.kind, l.utc, l.unit = logicalTime, true, int16(e.converted-convertedTimeMillis)+millis
	case e.converted == convertedTimestampMillis || e.converted == convertedTimestampMicros:
		l.kind, l.utc, l.unit = logicalTimestamp, true, int16(e.converted-convertedTimestampMillis)+millis
	case e.converted >= convertedUint8 && e.converted <= convertedInt64:
		l.kind, l.signed = logicalInt, e.converted >= convertedInt8
		l.bits = int8(8 << ((e.converted - convertedUint8) & 3))
	}
	misfit := func() (leafType, string, error) {
		return t, "", damagef("its annotation (%d) does not fit its storage as %s", l.kind, physName(e.phys))
	}
	switch l.kind {
	case logicalString, logicalEnum, logicalJSON:
		if e.phys != physBytes {
			return misfit()
		}
		return plain(isString, "STRING")
	case logicalBSON:
		if e.phys != physBytes {
			return misfit()
		}
		return plain(isBytes, "BSON")
	case logicalUUID:
		if e.phys != physFixed || e.length != 16 {
			return misfit()
		}
		return plain(isUUID, "UUID")
	case logicalFloat16:
		if e.phys != physFixed || e.length != 2 {
			return misfit()
		}
		return plain(isFloat16, "FLOAT16")
	case logicalUnknown:
		return plain(isNull, "NULL")
	case logicalDecimal:
		if e.phys != physInt32 && e.phys != physInt64 && e.phys != physBytes && e.phys != physFixed ||
			l.precision < 1 || l.scale < 0 || l.scale > l.precision || l.precision > 1000 {
			return misfit()
		}
		t.scale, t.digits = l.scale, l.precision
		return plain(isDecimal, fmt.Sprintf("DECIMAL(%d,%d)", l.precision, l.scale))
	case logicalDate:
		if e.phys != physInt32 {
			return misfit()
		}
		return plain(isDate, "DATE")
	case logicalTime, logicalTimestamp:
		if l.unit < millis || l.unit > nanos || e.phys != physInt64 && !(e.phys == physInt32 && l.kind == logicalTime && l.unit == millis) {
			return misfit()
		}
		t.unit, t.utc = l.unit, l.utc
		zone := "local"
		if l.utc {
			zone = "UTC"
		}
		if l.kind == logicalTime {
			return plain(isTime, fmt.Sprintf("TIME(%s,%s)", unitNames[l.unit], zone))
		}
		return plain(isTimestamp, fmt.Sprintf("TIMESTAMP(%s,%s)", unitNames[l.unit], zone))
	case logicalInt:
		if e.phys != physInt32 && e.phys != physInt64 {
			return misfit()
		}
		switch l.bits {
		case 8, 16, 32:
			if e.phys != physInt32 {
				return misfit()
			}
		case 64:
			if e.phys != physInt64 {
				return misfit()
			}
		default:
			return misfit()
		}
		t.bits, t.signed = l.bits, l.signed
		if l.signed {
			return plain(isInt, fmt.Sprintf("INT(%d)", l.bits))
		}
		return plain(isUint, fmt.Sprintf("UINT(%d)", l.bits))
	}
	switch e.phys {
	case physBool:
		return plain(isBool, "BOOLEAN")
	case physInt32:
		t.bits, t.signed = 32, true
		return plain(isInt, "INT32")
	case physInt64:
		t.bits, t.signed = 64, true
		return plain(isInt, "INT64")
	case physInt96:
		return plain(isInt96, "INT96")
	case physFloat:
		return plain(isFloat, "FLOAT")
	case physDouble:
		return plain(isDouble, "DOUBLE")
	case physBytes:
		return plain(isBytes, "BYTE_ARRAY")
	}
	return plain(isBytes, fmt.Sprintf("FIXED_LEN_BYTE_ARRAY(%d)", e.length))
}
