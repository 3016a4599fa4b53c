package cli

import (
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/leatgo/leat/metrics"
)

// Serve shows metrics at an address until stop is called. The log has the address, which is
// how to know the port when that was 0.
func Serve(addr string, m *metrics.Metrics, log *slog.Logger) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &http.Server{Handler: m.Handler(), ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error("metrics are not served any more", "error", err)
		}
	}()
	log.Info("metrics", "url", "http://"+l.Addr().String()+"/metrics")
	return func() {
		_ = s.Close()
		<-done
	}, nil
}
