package parquetsink

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestIsASCII(t *testing.T) {
	t.Parallel()
	for n := range 40 {
		s := strings.Repeat("~", n)
		assert.True(t, isASCII(s), n)
		for i := range n {
			assert.False(t, isASCII(s[:i]+"\x80"+s[i+1:]), "%d of %d", i, n)
		}
	}
}
