// Package files has what all sources of files share: csvsource, jsonsource and
// parquetsource read folders in the same way and differ only in what they see in a
// file.
//
// How files are found, known, read once, watched and moved is described in package
// csvsource. Here are the policies of their Configs, and the history that each of them
// keeps: [Ledger] shows it, [Reprocess] reads a file again, [Abandon] gives one up.
//
// Sources of one program may share a folder if their globs can't match the same file,
// so one folder may hold CSV and Parquet files for one pipeline: give the sources
// names and leat.Merge their flows.
package files
