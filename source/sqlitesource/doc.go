// Package sqlitesource reads rows of an SQLite table, view or query in the order of a
// cursor, and goes on from where it was.
//
//	src := sqlitesource.New(sqlitesource.Config[Venta]{Path: "ventas.db", Table: "ventas", Cursor: "id"})
//
// A run reads the rows that are there and ends; with Config.Every it goes on and looks for
// new ones. The database is opened for reading only, and nothing is written to it: the
// cursor is the pipeline's own position, which moves when its rows are durable in every
// sink (rule I2).
//
// # Cursor
//
// The cursor is the column, or the columns, in whose order rows are read, and of which new
// rows have greater values: an id, a time of change. What is not greater is not read
// twice, and what comes below it later is not read at all, unless it is looked for:
//
//   - A row that has the same value as the newest one that was read is found, also when
//     it commits later. Rows of one value are told apart by Config.Key, the primary
//     key as a rule.
//   - With Config.Overlap (times) or OverlapUnits (integers), rows are found that commit so
//     far below the newest one: transactions that take their time at their start, and
//     clocks that differ. Rows within the overlap are remembered in the position.
//   - Of a table that is read by an integer key, rows that appear among the last 1,000 to
//     2,000 keys are noticed, and the log says so.
//   - Older rows are read by a Backfill: see Range.
//
// A row that is updated comes again if its cursor grows, which is what a time of change is
// for. Deletions are not seen.
//
// The cursor must not be NULL, and of one kind in all rows (numbers, texts, blobs), for SQLite
// sorts kinds apart; this is checked. Texts are compared byte by byte, whatever the column's
// collation. A cursor that is a time.Time in T must be text of one width, such as
// 2025-01-02T03:04:05.678Z or what CURRENT_TIMESTAMP gives, and in one zone, so that texts
// sort as times do; this is checked too. sqlitesink's default layout has no fixed width.
//
// The cursor needs an index, else SQLite sorts the whole table for each page. The log tells
// which one to make, once.
//
// # Offsets
//
// Where the cursor is one integer column that is unique by the schema, and there is no
// overlap, the offset of a row is its key: the same whenever it is read, so that its dead
// letters have the same ids too. In all other cases rows are numbered as they are read, and
// the position holds the cursor's value, the keys that were read there, and the number.
//
// A table may have changed when it is read again, so the source is leat.ReplaySimilar (rule
// A2-2): after a crash, sinks that are ahead get rows again, and should have a key.
// With Config.AppendOnly the owner of the table asserts that it does not change, and the
// source is leat.ReplayExact: then sinks that keep positions have each row once. What is
// checked of that: the cursor is a unique integer; no row appears or goes among the
// last 1,000 to 2,000 keys; the table does not end before what a sink holds.
//
// The position names the database, the table and the cursor (see Config.Log); that of
// another one is refused (rule A2-1). So is a table that ends before the position, see
// Config.Purged. SQLite gives the id of a deleted newest row to the next one, unless the key
// is AUTOINCREMENT: who deletes rows that were read should use that. And VACUUM may
// give new rowids to a table without an INTEGER PRIMARY KEY: read such a one by the
// rowid only if it is never vacuumed.
//
// # Reading
//
// Rows are read in pages, each in a read transaction of its own, which has ended before the
// pipeline takes the page. So a slow pipeline does not keep the write-ahead log from being
// reset. A look at a database that has not changed costs one PRAGMA. A database that takes
// the place of another by a rename is opened anew.
//
// When a writer has locked the database for longer than Config.BusyTimeout the engine tries
// again with backoff. In WAL mode readers do not wait for writers; the folder must be
// writable then, unless a writer has the database open.
//
// # Values
//
// SQLite has values of any kind in any column. A value that the field can't hold exactly
// rejects that row alone, with class leat.Decode; Rule is "null", "type", "range", "syntax"
// or "empty". What sqlitesink writes comes back as it was.
//
//	SQLite    Go
//	NULL      pointers and sql.Null only
//	INTEGER   integers that are wide enough, bool (0 and 1), time.Duration (nanoseconds),
//	          floats that hold all its digits, string, UnmarshalText
//	REAL      floats; integers if it is a whole number; string, UnmarshalText
//	TEXT      string and []byte as it is, UTF-8 or not; time.Time in the column's
//	          layout; all else as in a CSV file
//	BLOB      []byte
//
// A dead letter's Raw is the row as a JSON object. What JSON has no form for is
// {"blob": base64}, {"text": base64} when it is not UTF-8, and {"float": "+Inf"}.
//
// A field tagged `leat:"@offset"` is filled in; other origins have no meaning here.
package sqlitesource
