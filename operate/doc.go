// Package operate looks at what pipelines leave behind, and mends it by hand: ledgers,
// positions, counters, dead letters. The command cmd/leat is a thin cover of it.
//
// Looking never changes anything and may be done while a pipeline runs. What changes
// something ([Reset], [Reprocess]) needs the state folder alone and refuses one in use
// ([ErrInUse]); it is durable when it returns, and can be repeated when it was cut off.
//
// Replaying dead letters needs the pipeline itself, so a program does that with
// leat.Replay. [Export] chooses letters here for a program to replay.
//
// A state folder is what leat.Config.StateDir names: leat-state/<pipeline> unless said
// otherwise. Positions are also kept by sinks; a [Holder] is such a place. The state
// folder and [Lake] are here; one for SQLite, which links a driver, is in package
// sqliteholder.
package operate
