package heldsum

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestOf(t *testing.T) {
	t.Parallel()
	// It is in databases: it must stay what it is.
	require.Equal(t, "b29e51e9", Of("ventas", "tabla", "p", true, 4711, `{"line":7}`, "log"))
	seen := map[string]bool{}
	for _, s := range []string{
		Of("a", "b", "c", true, 0, "", ""), Of("a", "b", "c", false, 0, "", ""), Of("a", "b", "c", true, -1, "", ""),
		Of("ab", "", "c", true, 0, "", ""), Of("a", "b", "", true, 0, "c", ""), Of("a", "b", "c", true, 0, "", "x"),
	} {
		require.False(t, seen[s])
		seen[s] = true
	}
}
