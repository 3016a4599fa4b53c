package schedule

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-co-op/gocron/v2"
)

// Spec says when. The zero value says never. It is a flag.TextVar value.
type Spec struct {
	text  string
	every time.Duration // or, when it is 0,
	cron  gocron.Cron   // which is only asked about UTC: a day there has 24 hours
	zone  *time.Location
	flows bool // any hour will do: time flows, see the package on changing clocks
}

// Parse reads a spec; see the package for its forms. The error says what is wrong.
func Parse(text string) (Spec, error) {
	s, err := parse(strings.TrimSpace(text))
	if err != nil {
		return Spec{}, fmt.Errorf("schedule %q: %w", text, err)
	}
	return s, nil
}

func parse(text string) (Spec, error) {
	if text == "" {
		return Spec{}, errors.New("it is empty; write an interval (15m) or a cron line (0 6 * * 1-5)")
	}
	s := Spec{text: text, zone: time.Local}
	line, zoned := text, false
	for _, prefix := range []string{"CRON_TZ=", "TZ="} {
		rest, ok := strings.CutPrefix(line, prefix)
		if !ok {
			continue
		}
		name, after, _ := strings.Cut(rest, " ")
		line = strings.TrimSpace(after)
		var err error
		if s.zone, err = time.LoadLocation(name); err != nil || name == "" {
			return Spec{}, fmt.Errorf("no time zone %q is known here; write a name such as America/Bogota "+
				"(a machine without a zone database needs a program that imports time/tzdata)", name)
		}
		zoned = true
		break
	}
	interval, every := strings.CutPrefix(line, "@every")
	if d, err := time.ParseDuration(strings.TrimSpace(interval)); err == nil || every {
		switch {
		case err != nil:
			return Spec{}, fmt.Errorf("%q is no duration; write 90s, 15m or 2h30m", strings.TrimSpace(interval))
		case d < time.Second:
			return Spec{}, fmt.Errorf("the interval %v is shorter than 1s", d)
		case zoned:
			return Spec{}, errors.New("an interval has no time zone")
		}
		s.every = d
		return s, nil
	}
	fields := strings.Fields(line)
	switch {
	case strings.HasPrefix(line, "@"):
		s.flows = line == "@hourly"
	case len(fields) == 5:
		s.flows = fields[1] == "*" || fields[1] == "?"
	case len(fields) == 6:
		return Spec{}, errors.New("six fields: programs do not agree whether the additional one is seconds or years; " +
			"write five (minute hour day month weekday), or an interval (10s) for seconds")
	default:
		return Spec{}, fmt.Errorf("%d fields; a cron line has five (minute hour day month weekday), an interval looks like 15m", len(fields))
	}
	for _, f := range fields {
		if strings.HasPrefix(f, ",") || strings.HasSuffix(f, ",") || strings.Contains(f, ",,") {
			return Spec{}, fmt.Errorf("%q has a comma without a number", f) // which the parser would pass over
		}
	}
	s.cron = gocron.NewDefaultCron(false)
	switch err := s.cron.IsValid(line, time.UTC, time.Now()); {
	case errors.Is(err, gocron.ErrCronJobInvalid):
		return Spec{}, errors.New("that time never comes")
	case err != nil:
		return Spec{}, reason(err)
	}
	return s, nil
}

// reason is gocron's error without its general first half.
func reason(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		if all := joined.Unwrap(); len(all) > 1 {
			return all[len(all)-1]
		}
	}
	return err
}

// String is the text that was parsed.
func (s Spec) String() string { return s.text }

// IsZero tells whether s says never.
func (s Spec) IsZero() bool { return s.every == 0 && s.cron == nil }

// MarshalText is the text that was parsed.
func (s Spec) MarshalText() ([]byte, error) { return []byte(s.text), nil }

// UnmarshalText is Parse. Empty text is the zero value.
func (s *Spec) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*s = Spec{}
		return nil
	}
	parsed, err := Parse(string(text))
	if err == nil {
		*s = parsed
	}
	return err
}

// Next is the first time after t; the zero time if there is none within five years.
// For an interval it is t and the interval. It is in the spec's time zone.
func (s Spec) Next(t time.Time) time.Time {
	switch {
	case s.every > 0:
		return t.Add(s.every)
	case s.cron == nil:
		return time.Time{}
	case s.flows:
		return s.nextFlowing(t.In(s.zone))
	}
	return s.nextOnWall(t.In(s.zone))
}

// nextFlowing goes from one change of the clocks to the next: between them, a zone
// is UTC and a constant.
func (s Spec) nextFlowing(t time.Time) time.Time {
	for after := wall(t); ; {
		w := s.cron.Next(after)
		if w.IsZero() {
			return w
		}
		_, offset := t.Zone()
		next := w.Add(-time.Duration(offset) * time.Second).In(s.zone)
		_, change := t.ZoneBounds()
		if change.IsZero() || next.Before(change) {
			return next
		}
		// On from there in the new offset. The moment of the change itself may be the
		// time.
		t, after = change, wall(change).Add(-time.Second)
	}
}

// nextOnWall asks for the next reading of the wall clock, and when it is first shown.
func (s Spec) nextOnWall(t time.Time) time.Time {
	for w := wall(t); ; {
		if w = s.cron.Next(w); w.IsZero() {
			return w
		}
		if next := shown(w, t.Location()); next.After(t) {
			return next // else the hour is repeated, and it was in the first one
		}
	}
}

// wall is what a clock beside t shows, as if it were UTC.
func wall(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// shown is when clocks in the zone first show w; if they never do, when they jump
// over it.
func shown(w time.Time, zone *time.Location) time.Time {
	t := time.Date(w.Year(), w.Month(), w.Day(), w.Hour(), w.Minute(), w.Second(), 0, zone)
	start, end := t.ZoneBounds()
	switch at := wall(t); {
	case at.After(w):
		return start
	case at.Before(w):
		return end
	}
	if start.IsZero() {
		return t
	}
	_, offset := start.Add(-time.Second).Zone()
	if first := w.Add(-time.Duration(offset) * time.Second); first.Before(start) && wall(first.In(zone)).Equal(w) {
		return first.In(zone)
	}
	return t
}
