package leat_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rootLinks is what the root may link, beside the standard library.
var rootLinks = []string{
	"github.com/leatgo/leat/internal/", "github.com/ThreeDotsLabs/watermill", "go.etcd.io/bbolt", "golang.org/x/sys/unix",
	// Watermill's own:
	"github.com/google/uuid", "github.com/lithammer/shortuuid/v3", "github.com/oklog/ulid", "github.com/pkg/errors",
}

// What a program links follows from what it imports: the root and the test kit
// bring no driver (docs/conventions.md, "What the root links").
func TestWhatTheRootLinks(t *testing.T) {
	t.Parallel()
	for _, pkg := range []string{"github.com/leatgo/leat", "github.com/leatgo/leat/leattest"} {
		out, err := exec.Command("go", "list", "-deps", pkg).Output()
		require.NoError(t, err)
		for dep := range strings.FieldsSeq(string(out)) {
			first, _, _ := strings.Cut(dep, "/")
			if !strings.Contains(first, ".") || strings.HasPrefix(dep, "vendor/") || dep == "github.com/leatgo/leat" || dep == pkg {
				continue // the standard library, and the package itself
			}
			ok := false
			for _, a := range rootLinks {
				ok = ok || dep == strings.TrimSuffix(a, "/") || strings.HasPrefix(dep, strings.TrimSuffix(a, "/")+"/")
			}
			require.Truef(t, ok, "%s links %s, so every user of it does", pkg, dep)
		}
	}
}

// Adapters link their own driver and no other.
func TestWhatAdaptersLink(t *testing.T) {
	t.Parallel()
	drivers := []string{
		"zombiezen.com/go/sqlite", "modernc.org/sqlite", "github.com/go-playground/validator/v10", "github.com/klauspost/compress",
		"github.com/parquet-go/parquet-go", "github.com/xitongsys/parquet-go", "github.com/apache/thrift", "google.golang.org/genproto",
		"github.com/fsnotify/fsnotify", "github.com/nicholas-fedor/shoutrrr", "github.com/go-co-op/gocron/v2", "github.com/jackc/pgx/v5",
		"github.com/ThreeDotsLabs/watermill-kafka/v3", "github.com/IBM/sarama",
		"github.com/prometheus/client_golang", "github.com/prometheus/client_model", "github.com/prometheus/common",
		"github.com/twmb/franz-go/pkg/kgo", "github.com/twmb/franz-go/pkg/sr", "github.com/twmb/avro", "google.golang.org/protobuf",
		"github.com/stretchr/testify", "go.uber.org/goleak",
	}
	for pkg, own := range map[string][]string{
		"source/csvsource":                 {"github.com/klauspost/compress", "github.com/fsnotify/fsnotify"},
		"source/jsonsource":                {"github.com/klauspost/compress", "github.com/fsnotify/fsnotify"},
		"source/parquetsource":             {"github.com/klauspost/compress", "github.com/fsnotify/fsnotify"},
		"source/sqlitesource":              {"zombiezen.com/go/sqlite", "modernc.org/sqlite"},
		"source/kafkasource":               {"github.com/twmb/franz-go/pkg/kgo", "github.com/klauspost/compress"},
		"sink/sqlitesink":                  {"zombiezen.com/go/sqlite", "modernc.org/sqlite"},
		"sink/parquetsink":                 {"github.com/parquet-go/parquet-go", "github.com/klauspost/compress", "google.golang.org/protobuf"},
		"sink/parquetsink/parquetgoengine": {"github.com/parquet-go/parquet-go", "github.com/klauspost/compress", "google.golang.org/protobuf"},
		"sink/parquetsink/xitongsysengine": {"github.com/xitongsys/parquet-go", "github.com/apache/thrift", "github.com/parquet-go/parquet-go", "github.com/klauspost/compress", "google.golang.org/protobuf"},
		"sink/csvsink":                     {"github.com/klauspost/compress"},
		"sink/jsonsink":                    {"github.com/klauspost/compress"},
		"sink/kafkasink":                   {"github.com/twmb/franz-go/pkg/kgo", "github.com/klauspost/compress"},
		"codec":                            {"github.com/twmb/franz-go/pkg/sr"},
		"codec/avrocodec":                  {"github.com/twmb/franz-go/pkg/sr", "github.com/twmb/avro"},
		"codec/protocodec":                 {"github.com/twmb/franz-go/pkg/sr", "google.golang.org/protobuf"},
		"stage":                            {"github.com/go-playground/validator/v10"},
		"notify":                           {"github.com/nicholas-fedor/shoutrrr"},
		"state":                            {"github.com/jackc/pgx/v5"},
		"source/watermillsource":           {},
		"sink/watermillsink":               {},
		"schedule":                         {"github.com/go-co-op/gocron/v2"},
		"metrics":                          {"github.com/prometheus/client_golang", "github.com/prometheus/client_model", "github.com/prometheus/common", "github.com/klauspost/compress", "google.golang.org/protobuf"},
		"operate":                          {"github.com/klauspost/compress", "github.com/fsnotify/fsnotify"},
	} {
		out, err := exec.Command("go", "list", "-deps", "github.com/leatgo/leat/"+pkg).Output()
		require.NoError(t, err)
		for dep := range strings.FieldsSeq(string(out)) {
			for _, d := range drivers {
				if dep != d && !strings.HasPrefix(dep, d+"/") {
					continue
				}
				require.Containsf(t, own, d, "%s links %s", pkg, dep)
			}
		}
	}
}

// What leattest brings into a user's test binary: the standard library, leat and what the
// root links, seen from a module of a user's own.
func TestWhatTheTestKitBrings(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("go", "list", "-deps", "-test", "./own")
	cmd.Dir = "examples/downstream"
	out, err := cmd.Output()
	require.NoError(t, err)
	kit := false
	for dep := range strings.FieldsSeq(string(out)) {
		kit = kit || strings.HasPrefix(dep, "github.com/leatgo/leat/leattest")
		first, _, _ := strings.Cut(dep, "/")
		if !strings.Contains(first, ".") || strings.HasPrefix(dep, "vendor/") || strings.HasPrefix(dep, "example.com/downstream/own") || strings.HasPrefix(dep, "[example.com/downstream/own") {
			continue
		}
		ok := dep == "github.com/leatgo/leat" || dep == "github.com/leatgo/leat/leattest"
		for _, a := range rootLinks {
			ok = ok || dep == strings.TrimSuffix(a, "/") || strings.HasPrefix(dep, strings.TrimSuffix(a, "/")+"/")
		}
		require.Truef(t, ok, "a user's test of a stage, sink and source links %s", dep)
	}
	require.True(t, kit)
}
