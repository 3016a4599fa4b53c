// Package stage has the stages that most pipelines are made of. Each
// constructor takes a function of the user's and returns a [leat.Stage] for
// [leat.Via]:
//
//	good := leat.Via(rows, "contract", stage.Validate[Venta]())
//	rich := leat.Via(good, "enrich", stage.Map(enrich))
//
// # Pure functions
//
// [Map], [Filter], [FilterMap] and [FlatMap] call a function for each row. The
// function must be pure: its result depends on its arguments only, it changes
// nothing, keeps nothing and does no I/O. It must be safe for concurrent use,
// because several batches are worked on at once, and it may be called again for
// a row that it has seen, because after trouble rows are read again. A row that
// is passed on as it came, or in parts, shares its strings, slices and pointers
// with rows that other branches read.
//
// An error rejects the row that caused it, with class [leat.Transform], and
// costs its neighbours nothing. So does a panic (rule A9): the dead letter has
// its stack, and the batch goes on with the next row. An error marked with
// [leat.Transient] has no place in a pure function; if there is one, no row is
// rejected for it and the engine tries the whole batch again (rule B8).
//
// # Checks
//
// [Check] lets rows pass that a function finds nothing wrong with; [Validate]
// and [ValidateWith] check the go-playground/validator tags of the row type. A
// row that breaks the contract is rejected with class [leat.Contract]. An error
// that is, or wraps, a [*leat.FieldError] is counted by column and rule.
//
// # Duplicates
//
// [Dedupe] lets the first row of each key pass, for ever or for a time. What it remembers
// is saved with the positions.
//
// # I/O
//
// [Call] and [CallBatch] are for functions that ask something outside: an HTTP
// API, a database. They get a context and must return when it ends. They run in
// parallel, without holding a slot for decoding, and keep the order of rows.
// After a crash or a retry they are asked again, so the call must be safe to
// repeat, and its answer is outside the promise that the same input gives the
// same output (rule G12).
package stage
