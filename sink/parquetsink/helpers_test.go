package parquetsink

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// open makes the format of a sink, as its lake would.
func open[T any](t testing.TB, c Config[T]) *format[T] {
	t.Helper()
	if c.Dir == "" {
		c.Dir = "x"
	}
	s := New(c)
	require.NoError(t, s.Validate())
	f, err := s.newFormat()
	require.NoError(t, err)
	return f.(*format[T])
}
