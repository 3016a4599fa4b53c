package xitongsysengine_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	// parquet-go-source, which xitongsys needs, knows a genproto of 2020. With it,
	// a workspace that holds leat and a program with a current grpc finds
	// googleapis/rpc in two modules, and does not build. A current genproto in
	// go.mod mends that, and this import keeps `go mod tidy` from dropping it.
	_ "google.golang.org/genproto/googleapis/type/date"
)

// TestDownstream builds a program that uses this engine, a current grpc and
// googleapis/rpc, as a module of its own and in a workspace together with leat.
func TestDownstream(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("-short: it fetches grpc and builds a program")
	}
	repo, err := filepath.Abs("../../..")
	require.NoError(t, err)
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.Mkdir(program, 0o755))
	file := func(path, text string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600))
	}
	run := func(where, flags string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "go", args...)
		cmd.Dir = where
		cmd.Env = append(os.Environ(), "GOFLAGS="+flags, "GOWORK=")
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		return out.String(), err
	}
	file("program/go.mod", "module example.com/program\n\ngo 1.26.0\n\nrequire github.com/leatgo/leat v0.0.0\n\nreplace github.com/leatgo/leat => "+filepath.ToSlash(repo)+"\n")
	file("program/main.go", `package main

import (
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"

	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/parquetsink/xitongsysengine"
)

type row struct{ ID int64 }

func main() {
	s := parquetsink.New(parquetsink.Config[row]{Dir: "x", Engine: xitongsysengine.New()})
	fmt.Println(s.Validate(), grpc.Version != "", (&status.Status{}).GetCode())
}
`)
	if out, err := run(program, "-mod=mod", "get", "google.golang.org/grpc@latest", "google.golang.org/genproto/googleapis/rpc@latest"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("the module proxy is needed here: %s", out)
		}
		t.Skipf("grpc can't be fetched, so this machine seems to be offline: %s", strings.TrimSpace(out))
	}
	check := func(where, what string) {
		out, err := run(where, "", "run", "example.com/program")
		require.NoError(t, err, "%s: %s", what, out)
		require.Equal(t, "<nil> true 0\n", out, what)
	}
	out, err := run(program, "-mod=mod", "mod", "tidy")
	require.NoError(t, err, out)
	check(program, "as a module of its own")

	file("go.work", "go 1.26.0\n\nuse (\n\t./program\n\t"+filepath.ToSlash(repo)+"\n)\n")
	check(program, "in a workspace with leat")
}
