// Package lake commits files: the part that all file sinks share (rules F1 to F8,
// E1 to E4, E8). What is in the files is a Format's business.
//
// # What is on disk
//
//	DIR/date=2025-03-01/ventas-7-4096.parquet      a data file: <pipeline>-<entry>-<first offset>
//	DIR/_leat/0000000000000007.json                an entry of the manifest
//	DIR/_leat/0000000000000064.snapshot.json       what the entries up to 64 come to
//	DIR/_leat/ventas.lago.91b3….mQ34….lock       locked while this member lives
//	DIR/_leat/.ventas.lago.91b3….mQ34…-2.tmp     a file that it writes
//	DIR/_leat/.ventas.lago.91b3….mQ34….pending   an entry of it whose files are being moved
//	DIR/_leat/ventas.lago.91b3….recovery.lock    locked while somebody clears up after dead members
//
// An owner is a sink of a pipeline. Several may write to one lake: the manifest is
// one chain of entries, and each owner has positions of its own in it. A member is one
// life of such a sink, from Open to Close. Several members of one owner may live at a time, in
// one process or in many, as the members of a consumer group do: each partition has
// an epoch, and belongs to the member that took it over last (rule E2). Entries of
// others in between don't matter, whoever they are of.
//
// # A commit
//
//  1. All open files are closed and synced (rule F3: positions cover all of them).
//  2. The entry, with names, sizes, checksums, positions and epochs, is written as
//     a pending one, synced.
//  3. Each file gets its final name, as a second one (a hard link), which never
//     replaces a file; the folders are synced. Members that try the same number may
//     want the same name: the slower one takes another.
//  4. The pending entry gets the next number as a second name, if that is free: this is
//     the commit, and a compare-and-set (rule E3). If it is not free, the entries
//     that came are read. If one has moved or taken over a partition of this entry,
//     the member is fenced, for those partitions, and takes back what it placed;
//     else it goes on with step 2 and the next number, also in the files' names, so that
//     none is ever the name of a file that Compact has replaced.
//  5. The pending entry and the temporary names are deleted, and now and then a
//     snapshot is written.
//
// A member takes partitions over by an entry too (Restore), at any time, also while it
// has files open; the positions as of that entry are where it starts.
//
// Whoever opens the lake next settles what dead members have left: those whose lock is
// free. A pending entry whose files are whole, and whose partitions nobody has taken over
// since, is carried out; any other is taken back (rule F1); and what no entry names is
// deleted (rule F5). Temporary files lie in _leat and not where they will end, so
// that this needs no search through all folders, and so that a crash leaves nothing
// in them. Where the system has no locks (package filelock), a living member may be taken
// for dead: then it may lose work and rewind, but no row is lost or there twice.
//
// # Versions
//
// Version 1 had one epoch for each owner, which was one process. Its entries are read as
// what they mean now, and what it had begun is settled; while a program of version 1
// runs, Open waits. A program of version 1 refuses a lake that version 2 has
// written to. testdata/v1 is one of each (rule H6).
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
