package main

import (
	"bytes"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkTopic reads a topic of a real broker to its end, once for each round, for a profile:
//
//	cd bench && go run ./topics gen-w3 -topic bench-w3 -n 2000000
//	LEAT_KAFKA=… go test -run xxx -bench Topic -benchtime 3x -cpuprofile w3.prof ./examples/eventos
//	go tool pprof -top -cum w3.prof
func BenchmarkTopic(b *testing.B) {
	brokers, topic := os.Getenv("LEAT_KAFKA"), os.Getenv("LEAT_TOPIC")
	if brokers == "" {
		b.Skip("LEAT_KAFKA is not set: the brokers to read from")
	}
	if topic == "" {
		topic = "bench-w3"
	}
	rows := int64(0)
	for b.Loop() {
		var stdout, stderr bytes.Buffer
		group := fmt.Sprintf("eventos-bench-%d", time.Now().UnixNano())
		code := program(b.Context(), []string{"-brokers", brokers, "-topic", topic, "-group", group, "-out", b.TempDir(), "-drain", "-json"}, &stdout, &stderr, tuning{})
		r := ended{code, stdout.String(), stderr.String()}
		require.Equal(b, 0, code, "%v", r)
		rows += r.summary(b).In
	}
	b.ReportMetric(float64(rows)/b.Elapsed().Seconds(), "events/s")
}
