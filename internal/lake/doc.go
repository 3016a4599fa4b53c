// Package lake commits files: the part that all file sinks share (rules F1 to F8,
// E1 to E4, E8). What is in the files is a Format's business.
//
// # What is on disk
//
//	DIR/date=2025-03-01/ventas-7-4096.parquet      a data file: <pipeline>-<entry>-<first offset>
//	DIR/_leat/0000000000000007.json                an entry of the manifest
//	DIR/_leat/0000000000000064.snapshot.json       what the entries up to 64 come to
//	DIR/_leat/ventas.lago.91b3….lock               locked while this owner writes
//	DIR/_leat/.ventas.lago.91b3….5-2.tmp           a file being written in epoch 5
//	DIR/_leat/.0000000000000008.ventas.….pending   an entry whose files are being moved
//
// An owner is a sink of a pipeline. Several may write to one lake: the manifest is
// one chain of entries, and each owner has positions and an epoch of its own in it.
//
// # A commit
//
//  1. All open files are closed and synced (rule F3: positions cover all of them).
//  2. The entry, with names, sizes, checksums and positions, is written as a pending
//     one, synced.
//  3. Each file gets its final name, as a second one (a hard link), which never
//     replaces a file; the folders are synced.
//  4. The pending entry is renamed to the next number, if that is free: this is the
//     commit, and a compare-and-set (rule E3). If it is not free, the entries that
//     came are read. One of the same owner in a higher epoch means fenced; else it
//     goes on with step 2 and the next number.
//  5. The temporary names are deleted, and now and then a snapshot is written.
//
// Whoever opens the lake next settles what was cut off: a pending entry whose
// files are whole is carried out, any other is taken back (rule F1), and what no
// entry names is deleted (rule F5). Temporary files lie in _leat and not where
// they will end, so that this needs no search through all folders, and so that a
// crash leaves nothing in them.
//
// # Why the chain can be cut off at its beginning
//
// A snapshot of entry n makes what is older superfluous (rule F7). Deleted is only
// what is older than the snapshot before it, oldest first, so that
//
//   - readers that have begun at the snapshot before come to an end,
//   - the newest snapshot, should it be damaged, can be done without,
//   - the last entry is always there. So "no entry n+1, and entry n is there" is
//     the end, while "no entry n either" means: look again. A writer that slept
//     while its next number was used and deleted finds out in the same way, after
//     it has taken that number, and begins again.
//
// A snapshot is written every 64 entries, less often when it is large: the bytes
// written for snapshots stay in proportion to those of entries.
//
// # Failure
//
// An error in the middle of a file or of a commit leaves open what is on disk. The
// sink does not try to go on: it returns leat.ErrAborted, and the Open of the
// rewind finds out (rules E4, E8). Trouble that a rewind can't mend ends the
// pipeline.
//
// The failpoints, in order: lake/files-synced, lake/pending-written, lake/renamed
// (after each file), lake/before-entry, lake/after-entry, lake/snapshot-written,
// lake/before-delete (before each file); and for Compact, around those of its
// commit: lake/compact-merged, lake/compact-replaced, lake/compact-before-delete.
package lake
