package leat_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

// fileSource is a source that can refuse what it would read.
type fileSource struct{ *funcSource }

func (fileSource) CanRejectFiles() bool { return true }

// B2: a trial shows what delivery would refuse, and delivers nothing.
func TestTrialOfAChunk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := config(t)
		letters := &memLetters{}
		c.DeadLetters = letters
		c.OnReject = map[leat.Class]leat.Policy{leat.Contract: leat.RejectFile}
		var called atomic.Int64
		sink := leattest.Collect[int]()
		src := fileSource{source(func(ctx context.Context, in leat.Intake[int]) error {
			if !in.RejectsFiles() {
				return errors.New("the policy is not known")
			}
			if _, _, err := in.Try(ctx, chunk(0, 10)); !assert.ErrorContains(t, err, "not assigned") {
				return err
			}
			if _, err := in.Assign(leat.Partition{Log: "log"}); err != nil {
				return err
			}
			released := 0
			one := chunk(0, 100)
			locate := one.Locate
			one.Locate = func(records []int) []leat.Origin {
				out := locate(records)
				for i := range out {
					out[i].Line = out[i].Offset + 2
				}
				return out
			}
			one.Release = func() { released++ }
			faults, first, err := in.Try(ctx, one)
			assert.NoError(t, err)
			assert.Equal(t, 10, faults, "rows of another class, and those behind I/O, are not counted")
			assert.EqualError(t, first, "line 9: a seven")
			assert.Equal(t, 1, released)

			faults, first, err = in.Try(ctx, chunk(0, 7))
			assert.NoError(t, err)
			assert.Zero(t, faults)
			assert.NoError(t, first)
			assert.Zero(t, called.Load(), "a trial does no I/O")

			bad := chunk(0, 7)
			bad.Decode = func(context.Context, *leat.Batch[int]) error { return errDisk }
			_, _, err = in.Try(ctx, bad)
			assert.ErrorIs(t, err, errDisk)

			return in.Send(chunk(0, 100))
		})}
		p := leat.New("p", c)
		rows := leat.From(p, leat.Source[int](src))
		checked := via(rows, "contract", func(_ context.Context, in, out *leat.Batch[int]) error {
			for i, r := range in.Rows() {
				switch r % 10 {
				case 7:
					out.Reject(i, leat.Contract, errors.New("a seven"))
				case 3:
					out.Reject(i, leat.Transform, errors.New("a three"))
				default:
					out.Append(r, i)
				}
			}
			return nil
		})
		called2 := wait(checked, "io", func(_ context.Context, in, out *leat.Batch[int]) error {
			called.Add(1)
			for i, r := range in.Rows() {
				if r%10 == 1 {
					out.Reject(i, leat.Contract, errors.New("a one"))
					continue
				}
				out.Append(r, i)
			}
			return nil
		})
		leat.To(called2, sink)
		require.NoError(t, run(t, p))
		assert.Len(t, sink.Committed(), 70)
		assert.Len(t, letters.all(), 30, "what delivery finds is kept, whatever the policy")
		s := p.Stats()
		requireBalance(t, s)
		assert.EqualValues(t, 100, s.Run.In, "a trial is not counted")
		assert.Zero(t, s.InFlight)
	})
}

func TestCheckOfRejectFile(t *testing.T) {
	t.Parallel()
	p := leat.New("p", leat.Config{OnReject: map[leat.Class]leat.Policy{
		leat.Decode: leat.RejectFile, leat.SinkReject: leat.RejectFile, leat.Late: 9, "Contrat": leat.SkipRow, leat.SinkUnavailable: leat.SkipRow,
	}})
	leat.To(leat.From(p, leat.Source[int](source(nil))), leattest.Collect[int]())
	err := p.Check()
	assert.ErrorContains(t, err, "rule B2: Config.OnReject[SinkReject] is RejectFile: a file can be refused for rows of class Decode and Contract only")
	assert.ErrorContains(t, err, "rule B2: Config.OnReject[Decode] is RejectFile, but func reads no files")
	assert.ErrorContains(t, err, "there is no policy 9")
	assert.ErrorContains(t, err, "Config.OnReject[Contrat]: rows are rejected with the classes [Decode Contract")
	assert.ErrorContains(t, err, "Config.OnReject[SinkUnavailable]")

	p = leat.New("p", leat.Config{OnReject: map[leat.Class]leat.Policy{leat.Decode: leat.RejectFile}})
	leat.To(leat.From(p, leat.Source[int](fileSource{source(nil)})), leattest.Collect[int]())
	assert.NoError(t, p.Check())
}

// B7: a program can tell a tripped breaker from other errors.
func TestBreakerIsAnErrorOfItsOwn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		p := leat.New("p", config(t))
		rows := leat.From(p, leat.Source[int](source(func(_ context.Context, in leat.Intake[int]) error { return sendAll(in, 1000, 100) })))
		leat.To(via(rows, "none", rowwise(func(int) (int, error) { return 0, errDisk })), leattest.Collect[int]())
		err := run(t, p)
		require.ErrorIs(t, err, leat.ErrBreakerOpen)
		require.ErrorContains(t, err, "circuit breaker: ")
	})
}
