package operate_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The functions link no driver; package sqliteholder does.
func TestWhatOperateLinks(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "github.com/leatgo/leat/operate").Output()
	require.NoError(t, err)
	for dep := range strings.FieldsSeq(string(out)) {
		for _, driver := range []string{"zombiezen.com/", "modernc.org/", "github.com/parquet-go/", "github.com/jackc/", "github.com/stretchr/testify"} {
			require.False(t, strings.HasPrefix(dep, driver), "operate links %s, so every user of it does", dep)
		}
	}
}
