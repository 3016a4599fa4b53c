package schedule

import (
	"flag"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the tests know their zones on every machine

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"15m", "1s", "2h30m", "@every 15m", "@every  90s", " 15m ",
		"* * * * *", "0 6 * * 1-5", "*/5 0-6,12 1 jan-mar mon,fri", "0 0 29 2 *", "0  6\t* * *", "? ? ? ? ?",
		"@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@yearly", "@annually",
		"CRON_TZ=America/Bogota 0 6 * * *", "TZ=UTC @daily", "CRON_TZ=Asia/Kathmandu   5 4 * * *",
	} {
		s, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, strings.TrimSpace(text), s.String())
		require.False(t, s.IsZero())
		require.True(t, s.Next(time.Now()).After(time.Now()), text)
	}
}

func TestParseTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", `schedule "": it is empty`},
		{"  ", "it is empty"},
		{"often", "1 fields; a cron line has five"},
		{"0 6 * *", "4 fields"},
		{"0 0 6 * * 1-5", "six fields"},
		{"0 6 * * * * *", "7 fields"},
		{"0", "shorter than 1s"},
		{"500ms", "shorter than 1s"},
		{"-15m", "shorter than 1s"},
		{"15", "1 fields"},
		{"@every", `"" is no duration`},
		{"@every often", `"often" is no duration`},
		{"@reboot", "unrecognized descriptor: @reboot"},
		{"60 6 * * *", "end of range (60) above maximum (59): 60"},
		{"0 24 * * *", "above maximum (23)"},
		{"0 6 0 * *", "below minimum (1)"},
		{"0 6 * 13 *", "above maximum (12)"},
		{"0 6 * * 7", "above maximum (6)"},
		{"0 6 * * mo", "failed to parse int from mo"},
		{"*/0 6 * * *", "step of range should be a positive number"},
		{"5-1 6 * * *", "beyond end of range"},
		{"1,,2 6 * * *", "comma without a number"},
		{", 6 * * *", "comma without a number"},
		{"0 6 30 2 *", "that time never comes"},
		{"0 6 31 apr,jun *", "that time never comes"},
		{"CRON_TZ=Mars/Olympus 0 6 * * *", `no time zone "Mars/Olympus" is known`},
		{"CRON_TZ= 0 6 * * *", `no time zone "" is known`},
		{"TZ=UTC", "0 fields"},
		{"CRON_TZ=../../etc/passwd 0 6 * * *", "no time zone"},
		{"TZ=UTC TZ=UTC 0 6 * * *", "six fields"},
		{"TZ=UTC 15m", "an interval has no time zone"},
		{"TZ=UTC @every 15m", "an interval has no time zone"},
	} {
		s, err := Parse(c.text)
		require.ErrorContains(t, err, c.want, c.text)
		require.NotContains(t, err.Error(), "\n", "one line: %v", err)
		require.True(t, s.IsZero())
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"15m", "0 6 * * 1-5", "TZ=", "CRON_TZ=UTC @daily", "@every 1h", "*/7,1-2 ? 1 jan sun"} {
		f.Add(s)
	}
	now := time.Date(2026, 11, 1, 5, 59, 59, 7, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			return
		}
		if next := s.Next(now); !next.After(now) && !next.IsZero() {
			t.Fatalf("%q: %v is not after %v", text, next, now)
		}
	})
}

// times are the next n after from, in the zone, in RFC 3339 without the year.
func times(t *testing.T, spec, from string, n int) (out []string) {
	t.Helper()
	s, err := Parse(spec)
	require.NoError(t, err)
	at, err := time.Parse(time.RFC3339, from)
	require.NoError(t, err)
	for range n {
		next := s.Next(at)
		require.True(t, next.After(at), "%v is not after %v", next, at)
		out = append(out, next.Format("Mon 01-02 15:04 MST"))
		at = next
	}
	return out
}

func TestNext(t *testing.T) {
	t.Parallel()
	const ny = "CRON_TZ=America/New_York " // 2026-03-08 02:00 EST → 03:00 EDT; 2026-11-01 02:00 EDT → 01:00 EST
	const spring, autumn = "2026-03-07T12:00:00-05:00", "2026-10-31T12:00:00-04:00"
	for _, c := range []struct {
		name, spec, from string
		want             []string
	}{
		{"weekdays", "TZ=UTC 0 6 * * 1-5", "2026-11-19T06:00:00Z", []string{"Fri 11-20 06:00 UTC", "Mon 11-23 06:00 UTC", "Tue 11-24 06:00 UTC"}},
		{"a moment before", "TZ=UTC 0 6 * * *", "2026-11-19T05:59:59Z", []string{"Thu 11-19 06:00 UTC"}},
		{"a fraction after", "TZ=UTC * * * * *", "2026-11-19T06:00:00.5Z", []string{"Thu 11-19 06:01 UTC"}},
		{"either day", "TZ=UTC 0 0 13 * fri", "2026-11-01T00:00:00Z", []string{"Fri 11-06 00:00 UTC", "Fri 11-13 00:00 UTC", "Fri 11-20 00:00 UTC"}},
		{"leap day", "TZ=UTC 0 0 29 2 *", "2026-01-01T00:00:00Z", []string{"Tue 02-29 00:00 UTC", "Sun 02-29 00:00 UTC"}},
		{"last days", "TZ=UTC 0 0 31 * *", "2026-01-31T00:00:00Z", []string{"Tue 03-31 00:00 UTC", "Sun 05-31 00:00 UTC"}},
		{"another zone", "CRON_TZ=America/Bogota 0 6 * * *", "2026-11-19T12:00:00Z", []string{"Fri 11-20 06:00 -05"}},
		{"interval", "15m", "2026-11-19T12:00:00Z", []string{"Thu 11-19 12:15 UTC", "Thu 11-19 12:30 UTC"}},

		{"spring: the missing time is made up", ny + "30 2 * * *", spring, []string{"Sun 03-08 03:00 EDT", "Mon 03-09 02:30 EDT"}},
		{"spring: once", ny + "*/10 2 * * *", spring, []string{"Sun 03-08 03:00 EDT", "Mon 03-09 02:00 EDT"}},
		{"spring: with what is due then anyway", ny + "0 2,3 * * *", spring, []string{"Sun 03-08 03:00 EDT", "Mon 03-09 02:00 EDT"}},
		{"spring: hourly", ny + "0 * * * *", "2026-03-08T00:30:00-05:00", []string{"Sun 03-08 01:00 EST", "Sun 03-08 03:00 EDT", "Sun 03-08 04:00 EDT"}},
		{"spring: half hourly", ny + "*/30 * * * *", "2026-03-08T01:00:00-05:00", []string{"Sun 03-08 01:30 EST", "Sun 03-08 03:00 EDT"}},
		{"spring: daily at midnight", ny + "@daily", spring, []string{"Sun 03-08 00:00 EST", "Mon 03-09 00:00 EDT"}},
		{"autumn: once a day", ny + "30 1 * * *", autumn, []string{"Sun 11-01 01:30 EDT", "Mon 11-02 01:30 EST"}},
		{"autumn: a series, once", ny + "0,30 1 * * *", autumn, []string{"Sun 11-01 01:00 EDT", "Sun 11-01 01:30 EDT", "Mon 11-02 01:00 EST"}},
		{"autumn: begun in the repeated hour", ny + "30 1 * * *", "2026-11-01T01:10:00-05:00", []string{"Mon 11-02 01:30 EST"}},
		{"autumn: hourly", ny + "@hourly", "2026-11-01T00:30:00-04:00", []string{"Sun 11-01 01:00 EDT", "Sun 11-01 01:00 EST", "Sun 11-01 02:00 EST"}},
		{"autumn: half hourly", ny + "*/30 * * * *", "2026-11-01T01:00:00-04:00",
			[]string{"Sun 11-01 01:30 EDT", "Sun 11-01 01:00 EST", "Sun 11-01 01:30 EST", "Sun 11-01 02:00 EST"}},
		{"autumn: the day after", ny + "0 3 * * *", autumn, []string{"Sun 11-01 03:00 EST", "Mon 11-02 03:00 EST"}},
		// Beirut had no midnight on 2022-03-27.
		{"no midnight", "TZ=Asia/Beirut @daily", "2022-03-26T12:00:00+02:00", []string{"Sun 03-27 01:00 EEST", "Mon 03-28 00:00 EEST"}},
		{"no midnight, on a day of the week", "TZ=Asia/Beirut 0 * * * sun", "2022-03-26T12:00:00+02:00", []string{"Sun 03-27 01:00 EEST", "Sun 03-27 02:00 EEST"}},
		// Lord Howe's clocks change by half an hour: 2026-04-05 02:00 → 01:30, 2026-10-04 02:00 → 02:30.
		{"half an hour back", "TZ=Australia/Lord_Howe 45 1 * * *", "2026-04-04T12:00:00+11:00", []string{"Sun 04-05 01:45 +11", "Mon 04-06 01:45 +1030"}},
		{"half an hour forward", "TZ=Australia/Lord_Howe 15 2 * * *", "2026-10-03T12:00:00+10:30", []string{"Sun 10-04 02:30 +11", "Mon 10-05 02:15 +11"}},
		{"half an hour, hourly", "TZ=Australia/Lord_Howe 45 * * * *", "2026-04-05T01:00:00+11:00", []string{"Sun 04-05 01:45 +11", "Sun 04-05 01:45 +1030", "Sun 04-05 02:45 +1030"}},
		// Samoa left out the 30th of December 2011.
		{"no such day", "TZ=Pacific/Apia 0 6 * * *", "2011-12-29T12:00:00-10:00", []string{"Sat 12-31 00:00 +14", "Sat 12-31 06:00 +14"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, c.want, times(t, c.spec, c.from, len(c.want)))
		})
	}
}

// A year of any line has as many runs as the clock on the wall promises.
func TestNextOverAYear(t *testing.T) {
	t.Parallel()
	for _, zone := range []string{"UTC", "America/New_York", "America/Bogota", "Europe/Berlin", "Asia/Beirut", "Australia/Lord_Howe", "Africa/Casablanca"} {
		for _, c := range []struct {
			line string
			want int // in a year of 365 days
		}{
			{"30 1 * * *", 365}, {"30 2 * * *", 365}, {"@daily", 365}, {"15 */6 * * *", 4 * 365}, {"30 * * * *", 24 * 365},
		} {
			s, err := Parse("TZ=" + zone + " " + c.line)
			require.NoError(t, err)
			from := time.Date(2026, 1, 1, 0, 0, 0, 0, s.zone).Add(-time.Second)
			end := time.Date(2027, 1, 1, 0, 0, 0, 0, s.zone).Add(-time.Second)
			n := 0
			for at := s.Next(from); at.Before(end); at = s.Next(at) {
				n++
			}
			if s.flows {
				require.InDelta(t, c.want, n, 1, "%v", s)
			} else {
				require.Equal(t, c.want, n, "%v", s)
			}
		}
	}
}

func TestSpecIsAFlag(t *testing.T) {
	t.Parallel()
	fs := flag.NewFlagSet("x", flag.ContinueOnError)
	var out strings.Builder
	fs.SetOutput(&out)
	var s Spec
	fs.TextVar(&s, "every", Spec{}, "when")
	require.NoError(t, fs.Parse([]string{"-every", "0 6 * * 1-5"}))
	require.Equal(t, "0 6 * * 1-5", s.String())
	require.Error(t, fs.Parse([]string{"-every", "often"}))
	require.Contains(t, out.String(), `invalid value "often" for flag -every: schedule "often": 1 fields`)
	require.Equal(t, "0 6 * * 1-5", s.String(), "a wrong value changes nothing")
	require.NoError(t, fs.Parse([]string{"-every", ""}))
	require.True(t, s.IsZero())
	require.True(t, s.Next(time.Now()).IsZero())
	text, err := s.MarshalText()
	require.NoError(t, err)
	require.Empty(t, text)
}
