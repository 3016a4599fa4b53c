// Package parquetsink writes rows to Parquet files in a folder, a lake, exactly
// once: plain files that DuckDB and pyarrow, and any other reader of the format,
// read with no help.
//
//	SELECT * FROM read_parquet('ventas/**/*.parquet', hive_partitioning = true)
//
// # Types
//
//	Go                          Parquet
//	bool                        BOOLEAN
//	int8, int16, int32          INT32, INT(8, 16 or 32, signed)
//	int, int64                  INT64, INT(64, signed)
//	uint8, uint16, uint32       INT32, INT(8, 16 or 32, unsigned)
//	uint, uint64                INT64, INT(64, unsigned)
//	time.Duration               INT64, INT(64, signed), nanoseconds
//	float32, float64            FLOAT, DOUBLE; NaN and infinities too
//	string                      BYTE_ARRAY, STRING; text that is not UTF-8 rejects the row
//	time.Time                   INT64, TIMESTAMP(MICROS, UTC); a year outside 1 to 9999 rejects the row
//	[]byte                      BYTE_ARRAY; nil is empty, not null
//	MarshalText (decimals, …)   BYTE_ARRAY, STRING, every digit kept
//	the same or a string,       DECIMAL(18,2) on INT32 (up to 9 digits), INT64 (up to 18)
//	  with `decimal=18.2`         or FIXED_LEN_BYTE_ARRAY(16) (up to 38)
//	[]T                         LIST of T, which are not null; nil is the empty list
//	*T, sql.Null[T]             as T or LIST, or null; all other columns are required
//
// The T of a list is a bool, a number, a string, []byte, a time or a duration.
// Maps, structs and lists of anything else have no column; Validate names them.
// The columns are in the order of the row type's fields.
//
// What is finer than a microsecond is cut off a time (towards the past, also
// before 1970), and its zone is not kept: the instant is. The option
// `decimal=18.2` means 18 digits, 2 of them behind the point. Nothing is rounded:
// a number with more digits than fit, before the point or behind it, rejects its
// row, and so does a text that is no number.
//
// A CSV file has no lists: give a row its list in a stage.Map behind the source.
//
// # Files
//
// A file becomes visible under its name when it is complete, and it counts from
// when the manifest (the folder _leat, without any *.parquet) names it together with
// the positions of the source (rule F1). So rows are visible when their file is
// closed: see Roll. A pipeline that must show rows sooner sets smaller limits,
// and lets Compact make large files of the small ones. Files lists those that
// count.
//
// Row groups are bounded, and so is memory: the open files together hold about 24
// MiB of rows that are not written yet (36 MiB without PartitionBy); past that the
// largest ends its row group early, and before that large ones do whose folder gets
// no rows any more (rule F8). Partition by what queries ask for and what has tens to
// hundreds of values: each value has a file open.
//
// # What lies in a file
//
// A row group has 65,536 rows (Config.RowGroupRows), less where rows are so wide
// that it would pass 12 MiB. While one is gathered, the one before it is encoded by
// columns, on all processors. Pages are of version 1, up to 1 MiB before they are
// compressed (128 KiB with PartitionBy), with a CRC:
//
//	texts that repeat                   RLE_DICTIONARY; PLAIN from where a dictionary passes 128 KiB
//	integers, times, decimals up to 18  RLE_DICTIONARY if the largest is less than 4,096 above the smallest,
//	  digits                              DELTA_BINARY_PACKED if neighbours are close to each other, else PLAIN
//	all else                            PLAIN
//
// DuckDB, pyarrow, polars, Spark (from 3.3 on) and the Go libraries read all of
// these. For a reader that does not know DELTA_BINARY_PACKED there is the engine of
// package parquetgoengine.
//
// Numbers, times, bools and decimals of up to 18 digits have their smallest and
// largest value in the file, by row group and by page, for readers that skip what a
// query can't find. Texts and bytes have none, nor has a row group of a float column
// that holds a NaN.
//
// # Several processes
//
// The members of a consumer group may write to one lake under the same pipeline and sink
// name, each with a state folder of its own: a partition belongs to the process that was
// given it last, and a commit of the one before is fenced (rules E2, E3). A pipeline that
// is started twice by mistake waits for its state folder, if that is the same; with two
// folders it looks like a group: the younger one takes the partitions over, and the
// older one stops with leat.ErrFenced. No row is lost or there twice either way.
//
// Who reads the folder itself, and not by the manifest, sees a file a moment before its commit;
// that of a fenced one is taken away again.
//
// # Starting over
//
// To write a lake again from the beginning, delete its folder, _leat included.
// Never delete or add files by hand: the sink refuses to go on when a file that
// the manifest names is missing.
package parquetsink
