package jsonsink

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestMain turns the test binary into the process that gets killed.
func TestMain(m *testing.M) {
	if path := os.Getenv("JSONSINK_CRASH"); path != "" {
		crashing(path)
		return
	}
	os.Exit(m.Run())
}

// crashing writes rows for ever, from where the positions say, and tells the
// parent of every commit.
func crashing(path string) {
	ctx := context.Background()
	must := func(err error) {
		if err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	s := New(Config[venta]{Path: path})
	must(s.Open(ctx, env()))
	at, err := s.Restore(ctx, []string{"p"})
	must(err)
	next := at["p"].Next
	rows := make([]venta, 50)
	for {
		for range 3 {
			for i := range rows {
				rows[i] = venta{next, float64(next) / 3}
				next++
			}
			must(s.write(ctx, rows))
		}
		_, err := s.Commit(ctx, upTo(next))
		must(err)
		fmt.Println("commit", next)
	}
}

// E1: rows and position agree whenever the process is killed, and what was
// reported as committed is there.
func TestKill9(t *testing.T) {
	t.Parallel()
	path := filePath(t)
	reported := int64(0)
	for round := range 8 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "JSONSINK_CRASH="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		lines := bufio.NewScanner(out)
		for range 2 + 3*round {
			require.True(t, lines.Scan(), "the process ended by itself")
			reported, err = strconv.ParseInt(strings.TrimPrefix(lines.Text(), "commit "), 10, 64)
			require.NoError(t, err, lines.Text())
		}
		require.NoError(t, cmd.Process.Kill())
		for lines.Scan() {
			if n, err := strconv.ParseInt(strings.TrimPrefix(lines.Text(), "commit "), 10, 64); err == nil {
				reported = n
			}
		}
		_ = cmd.Wait()

		next := held(t, path)["p"].Next
		require.GreaterOrEqual(t, next, reported, "A3: a reported commit is durable")
		i := int64(0)
		for line := range bytes.Lines([]byte(read(t, path))) {
			var v venta
			require.NoError(t, json.Unmarshal(line, &v))
			require.Equal(t, i, v.ID)
			i++
		}
		require.Equal(t, next, i, "E1: as many rows as the position says")
	}
}
