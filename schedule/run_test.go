package schedule

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func spec(t *testing.T, text string) Spec {
	t.Helper()
	s, err := Parse(text)
	require.NoError(t, err)
	return s
}

// record runs spec for total, with jobs that take so long in turn, and tells when
// each began, since the start. Time in a bubble begins at 2000-01-01 00:00 UTC, a
// Saturday.
func record(t *testing.T, c Config, total time.Duration, takes ...time.Duration) (began []time.Duration) {
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), total)
	defer cancel()
	running := false
	require.NoError(t, Run(ctx, c, func(context.Context) error {
		require.False(t, running, "runs overlap")
		running = true
		began = append(began, time.Since(start))
		if n := len(began); n <= len(takes) {
			time.Sleep(takes[n-1])
		}
		running = false
		return nil
	}))
	return began
}

const m, h, day = time.Minute, time.Hour, 24 * time.Hour

func TestRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spec  string
		now   bool
		total time.Duration
		takes []time.Duration
		want  []time.Duration
	}{
		{"interval", "15m", false, 50 * m, nil, []time.Duration{15 * m, 30 * m, 45 * m}},
		{"interval, and at once", "15m", true, 40 * m, nil, []time.Duration{0, 15 * m, 30 * m}},
		{"interval keeps step", "15m", true, 50 * m, []time.Duration{4 * m, 14 * m}, []time.Duration{0, 15 * m, 30 * m, 45 * m}},
		{"a long run skips the next ones", "15m", true, 80 * m, []time.Duration{40 * m}, []time.Duration{0, 45 * m, 60 * m, 75 * m}},
		{"a run as long as the interval", "15m", true, 80 * m, []time.Duration{15 * m}, []time.Duration{0, 30 * m, 45 * m, 60 * m, 75 * m}},
		{"cron", "TZ=UTC 0 6 * * 1-5", false, 4 * day, nil, []time.Duration{2*day + 6*h, 3*day + 6*h}},
		{"cron, and at once", "TZ=UTC 0 6 * * *", true, 2 * day, nil, []time.Duration{0, 6 * h, day + 6*h}},
		{"cron: a long run skips the next ones", "TZ=UTC 0 * * * *", false, 5*h + 30*m, []time.Duration{2*h + 30*m}, []time.Duration{h, 4 * h, 5 * h}},
		{"leap day", "TZ=UTC 0 0 29 2 *", false, 70 * day, nil, []time.Duration{59 * day}},
		// 2000-04-02, 02:00 EST → 03:00 EDT: day 92 is the first of April.
		{"clocks change", "TZ=America/New_York 30 2 1-3 4 *", false, 100 * day, nil,
			[]time.Duration{91*day + 7*h + 30*m, 92*day + 7*h, 93*day + 6*h + 30*m}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				require.Equal(t, c.want, record(t, Config{Spec: spec(t, c.spec), Now: c.now}, c.total, c.takes...))
			})
		})
	}
}

func TestRunTellsTheNextTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var told []string
		c := Config{Spec: spec(t, "TZ=UTC 0 6 * * *"), OnWait: func(next time.Time) { told = append(told, next.Format("01-02 15:04")) }}
		record(t, c, 2*day)
		require.Equal(t, []string{"01-01 06:00", "01-02 06:00", "01-03 06:00"}, told)
	})
}

func TestRunWaitsForTheJobWhenItIsCancelled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 20*m)
		defer cancel()
		drained := false
		err := Run(ctx, Config{Spec: spec(t, "15m")}, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(30 * time.Second) // longer than any patience of a scheduler's
			drained = true
			return ctx.Err()
		})
		require.NoError(t, err, "ended because it was asked to")
		require.True(t, drained)
	})
}

func TestRunEndsAtOnceWhileItWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		require.Empty(t, record(t, Config{Spec: spec(t, "@yearly")}, 90*time.Second))
		require.Equal(t, 90*time.Second, time.Since(start))
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, Run(ctx, Config{Spec: spec(t, "15m"), Now: true}, func(context.Context) error {
		t.Error("a job ran after the end")
		return nil
	}))
}

func TestErrorsOfTheJob(t *testing.T) {
	t.Parallel()
	fail := errors.New("no such folder")
	for _, c := range []struct {
		name    string
		onError func(error) error
		job     func(n int, ctx context.Context) error
		runs    int
		want    error
	}{
		{"end the schedule", nil, func(int, context.Context) error { return fail }, 1, fail},
		{"are passed on, and it goes on", func(error) error { return nil }, func(int, context.Context) error { return fail }, 4, nil},
		{"may end it later", func(err error) error {
			if err.Error() == "enough" {
				return err
			}
			return nil
		}, func(n int, _ context.Context) error {
			if n == 3 {
				return errors.New("enough")
			}
			return fail
		}, 3, errors.New("enough")},
		{"a cancelled context of its own is an error", nil, func(int, context.Context) error { return context.Canceled }, 1, context.Canceled},
		{"a failed drain is an error", nil, func(_ int, ctx context.Context) error { <-ctx.Done(); return fail }, 1, fail},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 4*m+time.Second)
				defer cancel()
				runs := 0
				err := Run(ctx, Config{Spec: spec(t, "1m"), OnError: c.onError}, func(ctx context.Context) error {
					runs++
					return c.job(runs, ctx)
				})
				require.Equal(t, c.want, err)
				require.Equal(t, c.runs, runs)
			})
		})
	}
}

// Rule A9.
func TestPanickingJobIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fail := errors.New("nil map")
		var got []error
		c := Config{Spec: spec(t, "1m"), OnError: func(err error) error { got = append(got, err); return nil }}
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Second)
		defer cancel()
		require.NoError(t, Run(ctx, c, func(context.Context) error { panic(fail) }))
		require.Len(t, got, 2, "and the schedule goes on")
		require.ErrorIs(t, got[0], fail)
		require.EqualError(t, got[0], "schedule: the job panicked: nil map")
		var p *PanicError
		require.ErrorAs(t, got[0], &p)
		require.Contains(t, string(p.Stack), "TestPanickingJobIsAnError")
		require.NoError(t, (&PanicError{Value: "text"}).Unwrap())
	})
}

func TestValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, Config{Spec: spec(t, "15m")}.Validate())
	err := Run(t.Context(), Config{}, nil)
	require.EqualError(t, err, "schedule: Config.Spec is not set; use Parse")
}

// The wall clock is set back by a little: a run does not come twice. By a lot: it is
// believed.
func TestNextAfterTheClockWasSet(t *testing.T) {
	t.Parallel()
	c := Config{Spec: spec(t, "TZ=UTC 0 6 * * *")}
	at := time.Date(2026, 11, 19, 6, 0, 0, 0, time.UTC)
	for _, x := range []struct {
		name      string
		now, want time.Time
	}{
		{"as it should be", at.Add(time.Second), at.Add(day)},
		{"back by a second", at.Add(-time.Second), at.Add(day)},
		{"back by a week", at.Add(-7*day + time.Second), at.Add(-6 * day)},
		{"forward by a week", at.Add(7*day + time.Second), at.Add(8 * day)},
	} {
		require.Equal(t, x.want, c.next(at, x.now), x.name)
	}
}

// While it waits, too: the clock was in 2030 when the program began.
func TestWaitFollowsTheClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := Config{Spec: spec(t, "TZ=UTC 0 6 * * *")}
		var told []time.Time
		c.OnWait = func(next time.Time) { told = append(told, next) }
		wrong := time.Now().AddDate(30, 0, 0)
		got := c.wait(t.Context(), wrong, c.Spec.Next(wrong))
		want := time.Date(2000, 1, 1, 6, 0, 0, 0, time.UTC)
		require.Equal(t, []time.Time{want}, told)
		require.True(t, got.Equal(want), "%v", got)
		require.True(t, time.Now().Equal(want))
	})
}
