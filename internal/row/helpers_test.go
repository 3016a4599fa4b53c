package row

import (
	"errors"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func mustOf[T any](t testing.TB) *Type {
	t.Helper()
	rt, err := Of[T]()
	require.NoError(t, err)
	return rt
}

// mustCol compiles T and returns its only column.
func mustCol[T any](t testing.TB) *Column {
	t.Helper()
	rt := mustOf[T](t)
	require.Len(t, rt.Columns, 1)
	return &rt.Columns[0]
}

func ruleOf(t testing.TB, err error) string {
	t.Helper()
	var e *Error
	require.True(t, errors.As(err, &e), "want a *row.Error, have %T: %v", err, err)
	return e.Rule()
}

type one[T any] struct {
	V T `leat:"v"`
}

// parseOne parses text into a fresh one[T].
func parseOne[T any](t testing.TB, text string) (T, error) {
	t.Helper()
	var r one[T]
	err := mustCol[one[T]](t).Parse(unsafe.Pointer(&r), text)
	return r.V, err
}
