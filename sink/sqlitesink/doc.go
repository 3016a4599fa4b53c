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
// # Fast tables
//
// Rows go into a plain table two to three times as fast as into one that asks SQLite to
// do something for each row. A table is plain when
//
//   - it has the columns of the row type, in any order, and no others;
//   - they have the types above, or words that SQLite takes for the same
//     (BIGINT, VARCHAR, DOUBLE); NOT NULL is fine where the field can't be null;
//   - it has no index, no UNIQUE, and no primary key but an INTEGER PRIMARY KEY;
//   - it has no trigger, CHECK, DEFAULT, COLLATE, generated column or AUTOINCREMENT, is
//     neither STRICT nor WITHOUT ROWID, and the text of the database is UTF-8;
//   - its database was made by SQLite 3.7.10 (2012) or later, or has had a VACUUM since.
//
// A table that New creates is plain when the row type has no key, or one integer as its
// key. With such a key, a batch is fast when its rows are new and their keys rise; if
// not, it is upserted row by row. The same holds for a batch with a row that is refused
// or longer than 64 KB. What is stored is the same, to the byte, either way. The log tells,
// at level Debug, why the rows of a table are written one by one.
//
// An index is cheaper made after a large load than kept up during it.
//
// A sink that has written the fast way holds up to 4 MiB until it is closed. While it does, the
// SQLite of this process (modernc.org/sqlite) forgets what it has cached and can
// read again, for all databases, at every batch.
//
// # Pages
//
// A database that New creates has pages of 16 KiB if the row type has no key: that takes a
// fifth of the time off a load, at the price of a sixth more for a row that is looked up by
// its rowid. With a key it has SQLite's own size, 4 KiB. To choose another, create the
// file before: a database that exists is left as it is.
//
// # One writer
//
// SQLite has one writer per database. The sink holds the write lock from the
// first Write after a commit until the next commit, so other writers wait for
// about leat.Config.CheckpointEvery; readers never wait (the journal is WAL).
// Sinks on one database take turns: those of one process in order of arrival, those of
// several processes so that none that waits is overtaken by one that has just committed.
// For the latter an empty file, NAME-queue, is made beside the database when a sink
// has to wait for the first time. Other programs get in between two transactions by luck,
// so give them a busy timeout of several checkpoints.
//
// # Several processes
//
// The members of a consumer group may write to one table under the same pipeline and sink
// name: each partition belongs to the process that was given it last, whose epoch
// fences the one before (rules E2, E3). They do not write any faster than one, and each waits for
// the commits of all others: with N members, a partition's rows appear within about N times
// leat.Config.CheckpointEvery, which should be well under the group's session timeout
// then. The file must be on a disk of the machine they all run on.
//
// # Starting over
//
// To load a table again from the beginning, delete the sink's rows of
// leat_positions together with the table's rows:
//
//	DELETE FROM leat_positions WHERE pipeline = 'ventas' AND sink = 'ventas'
package sqlitesink
