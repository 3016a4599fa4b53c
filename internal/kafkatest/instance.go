package kafkatest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Instance is Kafka brokers that a test has for itself, from the jars that .ci/servers/kafka.sh installs.
type Instance struct {
	Dir    string // of node-1, node-2 …, each with its log, and with log.old from before its last start
	script string
	env    []string
}

// NewInstance is for tests of packages two folders deep. Node i, from 1, listens on port+i-1 and, as a controller,
// on 100 more. Where java or the jars are missing, the test is skipped, or fails with CI=true. env is what the script knows.
func NewInstance(t testing.TB, name string, port int, env ...string) *Instance {
	t.Helper()
	unable := func(format string, args ...any) {
		t.Helper()
		if os.Getenv("CI") == "true" {
			t.Fatalf(format, args...)
		}
		t.Skipf(format, args...)
	}
	if _, err := exec.LookPath("java"); err != nil {
		unable("Kafka brokers need java: %v", err)
	}
	script, err := filepath.Abs("../../.ci/servers/kafka.sh")
	require.NoError(t, err)
	servers := os.Getenv("LEAT_SERVERS")
	if servers == "" {
		cache, _ := os.UserCacheDir()
		servers = filepath.Join(cache, "leat-servers")
	}
	if found, _ := filepath.Glob(filepath.Join(servers, "kafka", "dist-*", ".done")); len(found) == 0 {
		unable("Kafka's jars are not in %s: run .ci/servers/kafka.sh install, or set LEAT_SERVERS", servers)
	}
	name += "-" + strconv.Itoa(port)
	own := []string{
		"KAFKA_INSTANCE=" + name, "KAFKA_PORT=" + strconv.Itoa(port), "KAFKA_CONTROLLER_PORT=" + strconv.Itoa(port+100),
		"KAFKA_HEAP=192m", "KAFKA_AUTO_CREATE=false", "KAFKA_START_TIMEOUT=120",
	}
	return &Instance{Dir: filepath.Join(servers, "kafka", "run-"+name), script: script, env: append(append(os.Environ(), own...), env...)}
}

// Run calls the script: "start", "kill" and so on.
func (i *Instance) Run(args ...string) error {
	cmd := exec.Command(i.script, args...)
	cmd.Env = i.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("kafka.sh %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// Number is what the environment says.
func Number(name string, standard int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return standard
}
