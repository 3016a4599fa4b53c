// Package sqlitesink writes rows into a table of an SQLite database, exactly
// once: the positions of the source are stored in the same transaction as the
// rows (rule E1), in the table leat_positions of the same database.
//
// # Table
//
// The table is created from the row type when it is missing. Rows are inserted,
// or upserted when the row type has columns tagged `key`: those are the primary
// key of a table that New creates, and must have a unique index in one that
// exists. Without them there is no primary key.
//
//	Go                         SQLite
//	bool                       INTEGER 0 or 1
//	int, int8 … int64          INTEGER
//	uint, uint8 … uint64       INTEGER; a value above 2^63-1 rejects the row
//	time.Duration              INTEGER, nanoseconds
//	float32, float64           REAL; NaN rejects the row, infinities are stored
//	string                     TEXT
//	time.Time                  TEXT in the column's layout, in UTC
//	[]byte                     BLOB
//	MarshalText (decimals, …)  TEXT, every digit kept
//	*T, sql.Null[T]            as T, or NULL; all other columns are NOT NULL
//
// The default layout of a time has as many fractional digits as the time needs,
// so texts of mixed precision do not sort as times do: give the column a layout
// of fixed width (`leat:",time=2006-01-02T15:04:05.000Z"`) to sort by it.
//
// In a table that exists, SQLite converts what is stored to the affinity of the
// column: a decimal in a column declared DECIMAL or NUMERIC becomes a float. In
// a column declared TEXT it keeps all its digits.
//
// # One writer
//
// SQLite has one writer per database. The sink holds the write lock from the
// first Write after a commit until the next commit, so other writers wait for
// about leat.Config.CheckpointEvery; readers never wait (the journal is WAL).
// Several sinks of one process on one database take turns in order of arrival.
// Writers in other processes get in between two transactions by luck, so keep
// them few and give them a busy timeout of several checkpoints.
//
// # Starting over
//
// To load a table again from the beginning, delete the sink's rows of
// leat_positions together with the table's rows:
//
//	DELETE FROM leat_positions WHERE pipeline = 'ventas' AND sink = 'ventas'
package sqlitesink
