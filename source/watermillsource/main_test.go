package watermillsource_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/leatgo/leat/internal/engine"
)

func TestMain(m *testing.M) {
	if os.Getenv("LEAT_WM_CHILD") != "" {
		child()
		return
	}
	engine.Scrub = true // who reads rows after they were given back fails its test

	// sarama's meters tick for ever.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick"))
}
