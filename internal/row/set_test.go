package row

import (
	"math"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func TestSetters(t *testing.T) {
	t.Parallel()
	type typ struct {
		F   float64
		F32 *float32
		B   bool
		PB  *bool
		By  []byte
		PBy *[]byte
		S   string
		At  time.Time
	}
	rt, err := Of[typ]()
	require.NoError(t, err)
	var v typ
	p := unsafe.Pointer(&v)
	col := func(name string) *Column { return rt.Column(name) }
	require.NoError(t, col("f").SetFloat(p, 1.5))
	require.NoError(t, col("f32").SetFloat(p, 0.1))
	require.NoError(t, col("b").SetBool(p, true))
	require.NoError(t, col("pb").SetBool(p, true))
	require.NoError(t, col("by").SetBytes(p, []byte{1}))
	require.NoError(t, col("p_by").SetBytes(p, []byte{2}))
	f32, yes, by := float32(0.1), true, []byte{2}
	require.Equal(t, typ{F: 1.5, F32: &f32, B: true, PB: &yes, By: []byte{1}, PBy: &by}, v)

	require.NoError(t, col("f32").SetFloat(p, math.Inf(-1)))
	require.True(t, math.IsInf(float64(*v.F32), -1))
	before := v
	rule := func(err error) string {
		var e *Error
		require.ErrorAs(t, err, &e)
		return e.Rule()
	}
	require.Equal(t, RuleRange, rule(col("f32").SetFloat(p, 1e300)))
	require.Equal(t, RuleType, rule(col("s").SetFloat(p, 1)))
	require.Equal(t, RuleType, rule(col("s").SetBool(p, true)))
	require.Equal(t, RuleType, rule(col("s").SetBytes(p, nil)))
	require.Equal(t, before, v, "a value that does not fit changes nothing")

	at, err := col("at").Time("2025-01-02 03:04:05")
	require.NoError(t, err)
	require.Equal(t, time.Date(2025, 1, 2, 3, 4, 5, 0, time.UTC), at)
	_, err = col("at").Time("x")
	require.Error(t, err)
	require.Equal(t, "column s: \"1\" is not wanted", col("s").Refuse("mine", "1", "is not wanted").Error())
	require.Equal(t, "mine", rule(col("s").Refuse("mine", "1", "is not wanted")))
	require.Equal(t, "string", col("s").Holds())
}
