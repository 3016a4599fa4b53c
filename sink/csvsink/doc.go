// Package csvsink writes rows to CSV files in a folder, exactly once.
//
//	csvsink.New(csvsink.Config[Venta]{Dir: "ventas-csv"})
//
// Records are those of RFC 4180. Each file begins with a header line of the names
// of the columns, in order. Lines end in LF unless Config says CRLF.
//
//	Go                         CSV
//	bool                       true or false
//	int, uint, time.Duration   all digits; a duration in nanoseconds
//	float32, float64           a number; NaN or an infinity rejects the row
//	string, []byte             as it is, in quotes when it needs them
//	time.Time                  in the column's layout, in UTC
//	MarshalText (decimals, …)  its text, every digit kept
//	*T, sql.Null[T]            as T, or an empty field
//	slices, maps, structs      refused by Validate
//
// Null is an empty field without quotes, and an empty string is an empty field in
// quotes. Few readers tell the two apart (PostgreSQL does; csvsource, encoding/csv,
// pandas and spreadsheets do not). In a file of one column null has quotes too: a
// line with nothing on it is no record.
//
// CR LF inside a text is written as it is; encoding/csv reads it as LF.
//
// # Files
//
// A file appears when it is closed, whole, and is never changed afterwards. It is
// named <pipeline>-<commit>-<first offset>.csv, in the folders that PartitionBy
// makes of the rows: date=2025-03-01/… Values are escaped as Hive does (%XX); an
// empty one is __HIVE_DEFAULT_PARTITION__; one that makes a name of more than 255
// bytes rejects the row. Columns named in PartitionBy are not in the files.
//
// Files are closed as Roll says, when the sources have caught up, and at shutdown;
// all at once, because the positions that are committed with them cover them all.
// A crash costs reading again what was not closed.
//
// # The manifest
//
// The folder _leat holds the manifest: one small file per commit, with names,
// sizes, checksums and the positions of the source (rule F1). Leave it alone and
// keep it with the files: a file that is missing, or a damaged manifest, is
// refused with an error that says what to do. Readers that go by file names
// (DIR/**/*.csv, and the like for compressed files) see a file a moment before its commit; after
// a crash in that moment, the next start completes the commit.
//
// The temporary files are in _leat too, so Dir and its folders must be one file
// system.
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
// To load the rows again from the beginning, move the whole folder away, _leat
// included.
package csvsink
