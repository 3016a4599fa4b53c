// Package testhook is the door through which leattest reaches what package leat keeps
// to itself: a pipeline's plan, so that faults can be put between the engine and the
// ends, and the untyped side of a batch. Package leat fills it in when it is linked;
// nothing but leattest may use it.
package testhook

import (
	"context"

	"github.com/leatgo/leat/internal/engine"
)

var (
	// Config gives the *leat.Config of a *leat.Pipeline, to be changed before it runs.
	Config func(pipeline any) (config any)

	// Run is Pipeline.Run, with a last look at the plan before the engine has it.
	Run func(ctx context.Context, pipeline any, edit func(*engine.Plan)) error

	// Storage is what the engine makes of a leat.StateStore.
	Storage func(stateStore any) engine.Storage

	// Batch gives the untyped side of a *leat.Batch.
	Batch func(batch any) engine.Batch
)
