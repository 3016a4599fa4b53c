package engine_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/engine"
	"github.com/leatgo/leat/internal/statetest"
	"github.com/leatgo/leat/internal/store"
)

func TestLocalStorage(t *testing.T) {
	t.Parallel()
	statetest.Run(t, func(t *testing.T) statetest.World {
		path := filepath.Join(t.TempDir(), "checkpoints.db")
		return statetest.World{Open: func(t *testing.T) engine.Storage {
			s, err := store.OpenNow(path)
			require.NoError(t, err)
			return engine.LocalStorage(s)
		}}
	})
}
