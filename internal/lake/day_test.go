package lake

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDay(t *testing.T) {
	day := Day(func(at time.Time) time.Time { return at })
	require.Empty(t, day(time.Time{}))
	require.Nil(t, Day[time.Time](nil), "Validate says so")
	east := time.FixedZone("", 14*60*60)
	require.Equal(t, "2026-11-26", day(time.Date(2026, 11, 27, 13, 59, 59, 999, east)))
	require.Equal(t, "2026-11-27", day(time.Date(2026, 11, 27, 14, 0, 0, 0, east)))
	require.Equal(t, "1969-12-31", day(time.Unix(-1, 0)))
	require.Equal(t, "1970-01-01", day(time.Unix(0, 0)))
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 { // with days that share a place
		at := time.Unix(r.Int64N(300*24*60*60)-10*24*60*60, r.Int64N(1e9))
		require.Equal(t, at.UTC().Format(time.DateOnly), day(at))
	}
	at := time.Date(2026, 11, 27, 1, 2, 3, 4, time.UTC)
	require.Zero(t, testing.AllocsPerRun(100, func() { at = at.Add(time.Second); _ = day(at) }))
}
