package leat

import (
	"context"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/testhook"
)

// What leattest needs and users do not.
func init() {
	testhook.Config = func(p any) any { return &p.(*Pipeline).config }
	testhook.Run = func(ctx context.Context, p any, edit func(*engine.Plan)) error {
		pipeline := p.(*Pipeline)
		if err := pipeline.Check(); err != nil {
			return err
		}
		plan := pipeline.plan()
		edit(plan)
		return runPlans(ctx, []*Pipeline{pipeline}, []*engine.Plan{plan})
	}
	testhook.Storage = func(s any) engine.Storage { return engine.SharedStorage(*eraseState(s.(StateStore))) }
	testhook.Batch = func(b any) engine.Batch { return b.(interface{ untyped() engine.Batch }).untyped() }
}

func (b *Batch[T]) untyped() engine.Batch { return (*erased[T])(b) }
