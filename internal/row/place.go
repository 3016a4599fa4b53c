package row

import "unsafe"

// Make gives the place for a value of the row at p, of type [Column.Elem]: the field's
// own, or a new value that a pointer field then points to. The column is not null any
// more. For adapters that write values as they are, into rows that are new.
func (c *Column) Make(p unsafe.Pointer) unsafe.Pointer {
	q := c.begin(p)
	c.commit(p, q)
	return q
}
