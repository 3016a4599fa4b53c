// Package sqlitepage lays rows out as the pages of an SQLite database in memory, and
// lets SQLite read them from there.
//
// It is for one purpose. SQLite copies the records of a table as they are, without
// taking them apart, when a statement is INSERT INTO a SELECT * FROM b and both tables
// have the same shape (the "transfer optimization"). So rows that are encoded here, once
// and without a call per value, reach a durable database several times faster than
// by binding parameters; and that database is written by SQLite alone. What is made
// here is only ever read, within the statement, and then overwritten.
//
//	image.go   the pages: a table of leaves and, above several, one root
//	record.go  a row as a record, byte for byte as SQLite would write it
//	step.go    what is done for each column, found out once
//	file.go    the image as a file that SQLite can attach
//
// The file format is https://www.sqlite.org/fileformat2.html. Page 1, which holds the
// schema, is made by SQLite.
//
// # Stale pages
//
// SQLite keeps the pages that it has read for as long as a transaction lasts, and knows
// nothing of their changing underneath. PRAGMA shrink_memory, before each statement,
// makes it forget all that no statement is using. That this is so for the SQLite at
// hand nobody has to believe: each image counts how often its pages are read, and
// [Image.Seen] tells whether what SQLite has copied is what is here now.
package sqlitepage
