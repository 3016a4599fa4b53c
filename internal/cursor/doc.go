// Package cursor keeps track of what an incremental read of a database has had (rule
// I1), whatever the database.
//
// Rows are read in the order of a cursor (an id, a time of change), and rows of equal
// cursor in the order of their key. A row that commits later than its neighbours may
// stand at a cursor value that was read already, so the next reading starts at that
// value once more and leaves out the rows that were seen there: State remembers them,
// and the highest place that was read. With a Width it remembers, and the reading goes
// back over, more than that one value.
//
// What is remembered is bounded. Of equal cursor values without number (a bulk load with
// one time for all) only count and checksum are kept beyond Max: enough to tell that no
// row has come between them, but not which one did.
//
// The package never compares values by size: how a database sorts is its own matter.
package cursor
