package watermillsink_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/leatgo/leat/internal/engine"
)

func TestMain(m *testing.M) {
	engine.Scrub = true // who reads rows after they were given back fails its test
	goleak.VerifyTestMain(m)
}
