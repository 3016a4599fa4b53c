// Package state has stores for leat.Config.State: where several processes that share the
// work of one pipeline keep positions and the state of stages (rule H1).
//
// [Postgres] is one in PostgreSQL. A partition has one owner at a time. Who takes it raises
// its epoch, and a commit of an older owner then changes no row: that owner gives the
// partition up (rules E2, E3, H4). What stages remember, positions and notes are committed
// in one transaction per checkpoint (rule G12).
//
// # Tables
//
//	leat_state_version     one row: the version of the tables (rule H6)
//	leat_state_partitions  per pipeline and partition: epoch, position, which pieces of state there are
//	leat_state_pieces      the pieces, in parts of at most 1 MiB
//
// Rows carry a CRC-32C over their place and content, and the row of a partition names its
// pieces: damage is an error and never a start from zero. The columns are for the eyes of
// people too; the leat command moves positions, not UPDATE.
//
// Open makes the tables, and upgrades those of an older leat: stop all processes of the old one before. That
// takes a role that may create in the schema. Every other start needs SELECT on leat_state_version, and
// SELECT, INSERT, UPDATE and DELETE on the other two.
package state
