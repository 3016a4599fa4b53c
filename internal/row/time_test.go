package row

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

type (
	timeDefault struct{ T time.Time }
	timeSeconds struct {
		T time.Time `leat:"t,time=2006-01-02 15:04:05"`
	}
	timeDate struct {
		T time.Time `leat:"t,time=2006-01-02"`
	}
	timeSpanish struct {
		T time.Time `leat:"t,time=02/01/2006 15:04"`
	}
	timeZoned struct {
		T time.Time `leat:"t,time=2006-01-02T15:04:05-07:00"`
	}
)

func parseTimeOf[T any](t testing.TB, text string) (time.Time, error) {
	t.Helper()
	var r T
	c := mustCol[T](t)
	err := c.Parse(unsafe.Pointer(&r), text)
	return *(*time.Time)(unsafe.Pointer(&r)), err
}

// checkLayout holds a column of one layout against time.Parse.
func checkLayout[T any](t testing.TB, text string) {
	t.Helper()
	layout := mustCol[T](t).Layout
	got, err := parseTimeOf[T](t, text)
	want, werr := time.ParseInLocation(layout, text, time.UTC)
	if (err == nil) != (werr == nil) {
		t.Fatalf("%q in %s: %v, but the time package: %v", text, layout, err, werr)
	}
	if err == nil && !sameTime(got, want) {
		t.Fatalf("%q in %s = %v, but the time package: %v", text, layout, got, want)
	}
}

// sameTime is equal to the last bit, but for the identity of a made-up zone.
func sameTime(a, b time.Time) bool {
	an, ao := a.Zone()
	bn, bo := b.Zone()
	return a.Equal(b) && an == bn && ao == bo && (a.Location() == time.UTC) == (b.Location() == time.UTC)
}

var timeTexts = []string{
	"2025-01-31 10:20:30", "2025-02-30 00:00:00", "2024-02-29 23:59:59", "2023-02-29 00:00:00", "1900-02-29 00:00:00",
	"2000-02-29 00:00:00", "0000-01-01 00:00:00", "0000-02-29 00:00:00", "9999-12-31 23:59:59", "2025-01-01 24:00:00",
	"2025-01-01 23:60:00", "2025-01-01 23:59:60", "2025-13-01 00:00:00", "2025-00-01 00:00:00", "2025-01-00 00:00:00",
	"2025-04-31 00:00:00", "2025-01-01 1:02:03", "2025-01-01 01:02:03.5", "2025-01-01 01:02:03,25", "2025-01-01 01:02:03.",
	"2025-01-01 01:02:03.1234567891", "2025-01-01T01:02:03", "2025-01-01T01:02:03Z", "2025-01-01T01:02:03.123456789Z",
	"2025-01-01 01:02:03Z", "2025-01-01T01:02:03+05:30", "2025-01-01T01:02:03.5-05:00", "2025-01-01T01:02:03+25:00", "2025-01-01T01:02:03z",
	"2025-01-01", "2025-1-1", "2025-02-29", "2024-02-29", " 2025-01-01", "2025-01-01 ", "", "x", "20250101", "2025/01/01",
	"2025-01-01  1:02:03", "+025-01-01", "2025-01-01 01:02:3x", "-001-01-01 00:00:00", "31/12/2025 23:59", "31/02/2025 00:00",
	"2025-01-01T1:02:03Z", "2025-01-01T01:02:03.Z", "2025-01-01 01:02:03.123Z", "2025-01-01T24:00:00Z", "٢٠٢٥-01-01",
}

func checkAllLayouts(t testing.TB, text string) {
	t.Helper()
	checkLayout[timeSeconds](t, text)
	checkLayout[timeDate](t, text)
	checkLayout[timeSpanish](t, text)
	checkLayout[timeZoned](t, text)

	got, err := parseTimeOf[timeDefault](t, text)
	want, werr := slowDefaultTime(text)
	if (err == nil) != (werr == nil) || err == nil && !sameTime(got, want) {
		t.Fatalf("%q = %v, %v, but without the fast path: %v, %v", text, got, err, want, werr)
	}
}

func TestTimeAgainstOracle(t *testing.T) {
	t.Parallel()
	for _, s := range timeTexts {
		checkAllLayouts(t, s)
	}
}

func FuzzTime(f *testing.F) {
	for _, s := range timeTexts {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		checkAllLayouts(t, s)
		// What was read can be written and read again.
		if got, err := parseTimeOf[timeDefault](t, s); err == nil {
			c := mustCol[timeDefault](t)
			if y := got.UTC().Year(); y < 0 || y > 9999 {
				return
			}
			text := string(c.AppendTime(nil, got))
			again, err := parseTimeOf[timeDefault](t, text)
			if err != nil || !again.Equal(got) {
				t.Fatalf("%q → %s → %v, %v", s, text, again, err)
			}
		}
	})
}

// TestEveryDay tries each day from year 0 to 9999, and the dates around it that do not exist.
func TestEveryDay(t *testing.T) {
	t.Parallel()
	c := mustCol[timeDate](t)
	step := 1
	if testing.Short() {
		step = 97
	}
	var buf []byte
	last := time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)
	for d := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC); !d.After(last); d = d.AddDate(0, 0, step) {
		buf = d.AppendFormat(buf[:0], time.DateOnly)
		sec, valid := fastDate(string(buf))
		if !valid || sec != d.Unix() {
			t.Fatalf("%s: %d, %v, want %d", buf, sec, valid, d.Unix())
		}
		if got := time.Unix(sec, 0).UTC(); got != d {
			t.Fatalf("%s: %#v is not %#v", buf, got, d)
		}
		if got := c.AppendTime(nil, d); string(got) != string(buf) {
			t.Fatalf("%s is written as %s", buf, got)
		}
	}
	for year := range 2000 {
		for month := range 14 {
			for _, day := range []int{0, 29, 30, 31, 32} {
				s := fmt.Sprintf("%04d-%02d-%02d", year, month, day)
				_, err := time.Parse(time.DateOnly, s)
				if _, valid := fastDate(s); valid != (err == nil) {
					t.Fatalf("%s: %v, but the time package: %v", s, valid, err)
				}
			}
		}
	}
}

func TestTimeDefaults(t *testing.T) {
	t.Parallel()
	utc := func(h, m, s, ns int) time.Time { return time.Date(2025, 3, 9, h, m, s, ns, time.UTC) }
	for text, want := range map[string]time.Time{
		"2025-03-09T10:11:12Z":                utc(10, 11, 12, 0),
		"2025-03-09T10:11:12.5Z":              utc(10, 11, 12, 5e8),
		"2025-03-09T10:11:12.123456789Z":      utc(10, 11, 12, 123456789),
		"2025-03-09T10:11:12-05:00":           utc(15, 11, 12, 0),
		"2025-03-09 10:11:12":                 utc(10, 11, 12, 0),
		"2025-03-09 10:11:12.001":             utc(10, 11, 12, 1e6),
		"2025-03-09T10:11:12":                 utc(10, 11, 12, 0),
		"2025-03-09T10:11:12.000001":          utc(10, 11, 12, 1e3),
		"2025-03-09":                          utc(0, 0, 0, 0),
		"2025-03-09T10:11:12.1234567890+00:0": {},
	} {
		got, err := parseTimeOf[timeDefault](t, text)
		if want.IsZero() {
			require.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		assert.True(t, want.Equal(got), "%s: %v", text, got)
	}
	checkParse(t, "2025-03-09T10:11:12Z", utc(10, 11, 12, 0))
	checkParse(t, "2025-03-09", Fecha(utc(0, 0, 0, 0)))
}

func TestTimeRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, text, rule, want string
		parse                  func(testing.TB, string) (time.Time, error)
	}{
		{"month", "2025-13-01", RuleRange, `column t: "2025-13-01" is not a time in the layout 2006-01-02 15:04:05 (month out of range)`, parseTimeOf[timeSeconds]},
		{"day", "2025-02-30 00:00:00", RuleRange, `column t: "2025-02-30 00:00:00" is not a time in the layout 2006-01-02 15:04:05 (day out of range)`, parseTimeOf[timeSeconds]},
		{"24 h", "2025-02-03 24:00:00", RuleRange, `column t: "2025-02-03 24:00:00" is not a time in the layout 2006-01-02 15:04:05 (hour out of range)`, parseTimeOf[timeSeconds]},
		{"day, layout date", "2025-02-30", RuleRange, `column t: "2025-02-30" is not a time in the layout 2006-01-02 (day out of range)`, parseTimeOf[timeDate]},
		{"word", "ayer", RuleSyntax, `column t: "ayer" is not a time in the layout 02/01/2006 15:04`, parseTimeOf[timeSpanish]},
		{"space", "2025-02-03 ", RuleSyntax, `column t: "2025-02-03 " is not a time in the layout 2006-01-02 (it has spaces around it)`, parseTimeOf[timeDate]},
		{"empty", "", RuleEmpty, `column t: the cell is empty, but the column must hold a time`, parseTimeOf[timeDate]},
		{"default", "ayer", RuleSyntax, `column t: "ayer" is not a time such as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05`, parseTimeOf[timeDefault]},
		{"default, day", "2025-02-30", RuleRange, `column t: "2025-02-30" is not a time such as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05 (day out of range)`, parseTimeOf[timeDefault]},
		{"default, day and clock", "2025-02-30T00:00:00Z", RuleRange, `column t: "2025-02-30T00:00:00Z" is not a time such as 2006-01-02T15:04:05Z or 2006-01-02 15:04:05 (day out of range)`, parseTimeOf[timeDefault]},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := tc.parse(t, tc.text)
			require.EqualError(t, err, tc.want)
			assert.Equal(t, tc.rule, ruleOf(t, err))
		})
	}
}

func TestAppendTime(t *testing.T) {
	t.Parallel()
	bogota := time.FixedZone("COT", -5*3600)
	at := time.Date(2025, 12, 31, 22, 4, 5, 120_000_000, bogota)
	assert.Equal(t, "2026-01-01T03:04:05.12Z", string(mustCol[timeDefault](t).AppendTime(nil, at)))
	assert.Equal(t, "2026-01-01 03:04:05", string(mustCol[timeSeconds](t).AppendTime(nil, at)))
	assert.Equal(t, "2026-01-01", string(mustCol[timeDate](t).AppendTime(nil, at)))
	assert.Equal(t, "01/01/2026 03:04", string(mustCol[timeSpanish](t).AppendTime(nil, at)))
	assert.Equal(t, "x 2026-01-01T03:04:05+00:00", string(mustCol[timeZoned](t).AppendTime([]byte("x "), at)))
	for _, y := range []int{-1, 0, 7, 9999, 10000, 123456} {
		at := time.Date(y, 3, 4, 5, 6, 7, 8, time.UTC)
		for _, c := range []*Column{mustCol[timeSeconds](t), mustCol[timeDate](t)} {
			assert.Equal(t, at.Format(c.Layout), string(c.AppendTime(nil, at)))
		}
	}
}

// TestTimeIgnoresLocal is not parallel: it moves the machine.
func TestTimeIgnoresLocal(t *testing.T) {
	local := time.Local
	t.Cleanup(func() { time.Local = local })
	time.Local = time.FixedZone("COT", -5*3600)
	for _, s := range []string{"2025-01-02 03:04:05", "2025-01-02", "2025-01-02T03:04:05"} {
		got, err := parseTimeOf[timeDefault](t, s)
		require.NoError(t, err)
		assert.Equal(t, time.UTC, got.Location(), s)
	}
	type fila struct {
		T time.Time `leat:"t,time=2006-01-02 MST"`
	}
	got, err := parseTimeOf[fila](t, "2025-01-02 COT")
	require.NoError(t, err)
	_, off := got.Zone()
	assert.Zero(t, off, "an abbreviation means the same on every machine")
	got, err = parseTimeOf[timeDefault](t, "2025-01-02T03:04:05-05:00")
	require.NoError(t, err)
	assert.NotEqual(t, time.Local, got.Location())
}

func TestLayoutVaries(t *testing.T) {
	t.Parallel()
	for _, l := range strings.Split(time.ANSIC+"|"+time.UnixDate+"|"+time.RFC822+"|"+time.Kitchen+"|"+time.StampNano+"|15:04|2006|Jan", "|") {
		assert.True(t, layoutVaries(l), l)
	}
	for _, l := range []string{"YYYY", "dd/mm/yyyy", "%Y-%m-%d", "hoy"} {
		assert.False(t, layoutVaries(l), l)
	}
}
