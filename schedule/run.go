package schedule

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"
)

// Config is how a job is run.
type Config struct {
	// Spec says when. It must be set.
	Spec Spec

	// Now runs the job once at the start, too.
	Now bool

	// OnError gets the error of a run. It returns nil for the schedule to go on, or
	// what Run shall return. Defaults to returning the error.
	OnError func(error) error

	// OnWait is told the next time before each wait.
	OnWait func(next time.Time)
}

// Validate tells what is wrong with the Config.
func (c Config) Validate() error {
	if c.Spec.IsZero() {
		return errors.New("schedule: Config.Spec is not set; use Parse")
	}
	return nil
}

// PanicError is a panic of the job.
type PanicError struct {
	Value any
	Stack []byte
}

func (e *PanicError) Error() string { return fmt.Sprintf("schedule: the job panicked: %v", e.Value) }

// Unwrap gives the value if it is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Run runs the job by the schedule until ctx ends, and then returns nil; or until
// an error of the job's ends it. The job gets ctx, and runs on the goroutine of
// Run, which returns when the job has: a job must end soon after ctx, as a pipeline
// does after its drain. An error of a job whose ctx has ended counts unless it says
// just that. A panic is an error too, a *PanicError.
func Run(ctx context.Context, c Config, job func(ctx context.Context) error) error {
	if err := c.Validate(); err != nil {
		return err
	}
	if job == nil {
		return errors.New("schedule: there is no job")
	}
	from := c.now()
	for first := true; ctx.Err() == nil; first = false {
		if !first || !c.Now {
			at := c.next(from, c.now())
			if at.IsZero() {
				return fmt.Errorf("schedule %q: there is no next time", c.Spec)
			}
			if c.OnWait != nil {
				c.OnWait(at)
			}
			if from = c.wait(ctx, from, at); ctx.Err() != nil {
				return nil
			}
		}
		if err := c.run(ctx, job); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) run(ctx context.Context, job func(ctx context.Context) error) error {
	err := call(ctx, job)
	if err == nil || ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))) {
		return nil
	}
	if c.OnError != nil {
		return c.OnError(err)
	}
	return err
}

func call(ctx context.Context, job func(ctx context.Context) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &PanicError{r, debug.Stack()}
		}
	}()
	return job(ctx)
}

// now is on the wall clock for cron lines, and steady for intervals.
func (c *Config) now() time.Time {
	if c.Spec.every > 0 {
		return time.Now()
	}
	return time.Now().Round(0)
}

// step is how far the wall clock may be set back before it is believed. By less, the
// time of the last run must not come again.
const step = time.Hour

// next is the first time after the one that was last, from, and not before now: what
// was due during a run is skipped.
func (c *Config) next(from, now time.Time) time.Time {
	if every := c.Spec.every; every > 0 {
		return from.Add((now.Sub(from)/every + 1) * every) // in step with the start
	}
	if now.After(from) || now.Before(from.Add(-step)) {
		from = now
	}
	return c.Spec.Next(from)
}

// look is how often the wall clock is looked at while waiting: a timer does not
// notice that it was set, or that the machine slept.
const look = time.Minute

// wait waits for at, which follows from, and returns the time that has come.
func (c *Config) wait(ctx context.Context, from, at time.Time) time.Time {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		now := c.now()
		if c.Spec.every == 0 && now.Before(from.Add(-step)) { // at may be years away
			if from = now; c.Spec.Next(from).Before(at) {
				at = c.Spec.Next(from)
				if c.OnWait != nil {
					c.OnWait(at)
				}
			}
		}
		left := at.Sub(now)
		if left <= 0 {
			return at
		}
		timer.Reset(min(left, look))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return from
		}
	}
}
