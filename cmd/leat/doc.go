// Command leat looks at what pipelines leave behind and mends it by hand. It is a thin
// cover of package operate; docs/operations.md shows it at work.
//
//	leat ledger    STATEDIR [-source S]                       files and what became of them
//	leat positions STATEDIR [-sqlite FILE] [-lake DIR]        positions and counters
//	leat letters   STATEDIR [-class C] [-node N] [-file F]    dead letters, newest last
//	leat letter    STATEDIR ID                                one of them, with its bytes
//	leat replay    STATEDIR -o FILE [-class C] ...            letters for a program to replay
//	leat reprocess STATEDIR SOURCE FILE                       read a file again
//	leat reset     STATEDIR -partition P -to OFFSET|forget [-sqlite FILE] [-lake DIR] [-yes]
//	                                                          move a position; without -yes it says what would happen
//
// STATEDIR is the pipeline's state folder (leat-state/<pipeline>); letters, letter and
// replay also take the file of dead letters itself. Results go to stdout,
// errors to stderr. Exit code 0: done; 1: failed, or refused; 2: wrong usage. With -json the
// result is one JSON object.
package main
