package leat_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plain is text without its indentation.
func plain(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimSpace(line) + "\n")
	}
	return out.String()
}

// What docs/kafka.md shows of TLS and logins is an example of kafkasink's, so that it compiles.
func TestKafkaDocShowsTheExample(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/kafka.md")
	require.NoError(t, err)
	_, section, ok := strings.Cut(string(doc), "## TLS, logins and ACLs\n")
	require.True(t, ok)
	_, section, _ = strings.Cut(section, "```go\n")
	code, _, _ := strings.Cut(section, "```")
	require.NotEmpty(t, code)
	example, err := os.ReadFile("sink/kafkasink/example_test.go")
	require.NoError(t, err)
	require.Contains(t, plain(string(example)), plain(code))
}

// What docs/testing.md shows is in examples/downstream, whose tests CI runs.
func TestDocsShowWhatRuns(t *testing.T) {
	t.Parallel()
	var code strings.Builder
	require.NoError(t, filepath.WalkDir("examples/downstream", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		b, err := os.ReadFile(path)
		code.WriteString(plain(string(b)))
		return err
	}))
	doc, err := os.ReadFile("docs/testing.md")
	require.NoError(t, err)
	blocks := strings.Split(string(doc), "```go\n")[1:]
	require.NotEmpty(t, blocks)
	for _, b := range blocks {
		b, _, ok := strings.Cut(b, "```")
		require.True(t, ok)
		require.Contains(t, code.String(), plain(b), "examples/downstream does not have this code of docs/testing.md")
	}
}

// blocks is the Go code that a page shows.
func blocks(t *testing.T, page string) (out []string) {
	t.Helper()
	doc, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, b := range strings.Split(string(doc), "```go\n")[1:] {
		b, _, ok := strings.Cut(b, "```")
		require.True(t, ok)
		out = append(out, b)
	}
	return out
}

// What the other pages show compiles, within what stands around it.
func TestDocsCompile(t *testing.T) {
	t.Parallel()
	program := `package docs

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/IBM/sarama"
	"github.com/ThreeDotsLabs/watermill-kafka/v3/pkg/kafka"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
	"github.com/leatgo/leat/codec/avrocodec"
	"github.com/leatgo/leat/metrics"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/sink/watermillsink"
	"github.com/leatgo/leat/source/kafkasource"
	"github.com/leatgo/leat/source/watermillsource"
	"github.com/leatgo/leat/stage"
)

type (
	Pedido struct{ ID int64 }
	Venta  struct{ ID int64 }
	Charge struct{ ID int64 }
)

var (
	ctx            = context.Background()
	brokers        []string
	user, password string
	replay         *string
	p              *leat.Pipeline
	sub            message.Subscriber
	router         *message.Router
	handler        *message.Handler
	repository     middleware.ExpiringKeyRepository
	retry          middleware.Retry
)
`
	for page, around := range map[string][]string{ // the code of each block is put in for BLOCK
		"docs/kafka.md": {
			"func kafka0() error {\nBLOCK\nreturn err\n}",
			"func kafka1() {\nBLOCK\n_, _ = src, tx\n}",
			"func kafka2() {\nBLOCK\n}",
		},
		"docs/operations.md": {
			"func operations0() error {\nBLOCK\nreturn nil\n}",
			"func operations1() {\nBLOCK\n}",
		},
		"docs/watermill.md": {
			"func watermill0() {\nBLOCK\n_, _ = pipeline, err\n}",
			"var _ = watermillsource.Config[Charge]{\nBLOCK\n}",
			"func watermill2() {\nBLOCK\n}",
			"var _ = watermillsink.Config[Charge]{\nBLOCK\n}",
		},
	} {
		all := blocks(t, page)
		require.Len(t, all, len(around), "%s: a block of Go that this test does not know", page)
		for i, b := range all {
			b = strings.ReplaceAll(b, "kafkasource.Config[Venta]{…,", "_ = kafkasource.Config[Venta]{")
			program += "\n" + strings.Replace(around[i], "BLOCK", b, 1) + "\n"
		}
	}
	pages, err := filepath.Glob("docs/*.md")
	require.NoError(t, err)
	for _, page := range pages {
		if !slices.Contains([]string{"docs/kafka.md", "docs/operations.md", "docs/watermill.md", "docs/testing.md"}, filepath.ToSlash(page)) {
			require.Empty(t, blocks(t, page), "%s shows Go that no test compiles", page)
		}
	}
	file := filepath.Join(t.TempDir(), "docs.go")
	require.NoError(t, os.WriteFile(file, []byte(program), 0o600))
	out, err := exec.Command("go", "build", file).CombinedOutput() // of no main: compiled only
	require.NoErrorf(t, err, "%s", out)
}
