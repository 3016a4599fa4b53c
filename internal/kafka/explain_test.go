package kafka

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat/internal/kafkatest"
)

// talker is a port that answers the first bytes of a client with these, and closes.
func talker(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Read(make([]byte, 1<<16))
			_, _ = io.WriteString(conn, answer)
			_ = conn.Close()
		}
	}()
	return l.Addr().String()
}

// What a port does that is not the one that the client should have been given. The words by which kgo tells of an
// alert are its own, and this test says when they change.
func TestExplainsWrongPorts(t *testing.T) {
	t.Parallel()
	cert := kafkatest.NewCertificate(t)
	for name, c := range map[string]struct {
		answer  string
		opts    []kgo.Opt
		want    string
		refusal Refusal
	}{
		"no TLS, and Kafka's alert for it":  {"\x15\x03\x03\x00\x02\x02\x50", nil, "wants it, and this client does not speak it", Lasting},
		"no TLS, and a port that hangs up":  {"", nil, "see kgo.DialTLSConfig", Passing},
		"TLS, and a port that hangs up":     {"", []kgo.Opt{cert.Dial()}, "see kgo.DialTLSConfig", Passing},
		"TLS, and a port with another tune": {"HTTP/1.1 400 Bad Request\r\n\r\n", []kgo.Opt{cert.Dial()}, "leave kgo.DialTLSConfig out", Lasting},
		"TLS, and an alert for it":          {"\x15\x03\x03\x00\x02\x02\x28", []kgo.Opt{cert.Dial()}, "refused the handshake", Lasting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cl, err := kgo.NewClient(append(c.opts, kgo.SeedBrokers(talker(t, c.answer)))...)
			require.NoError(t, err)
			defer cl.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			plain := cl.Ping(ctx)
			require.Error(t, plain)
			refusal, err := Explain(cl, plain)
			require.ErrorIs(t, err, plain)
			assert.ErrorContains(t, err, c.want)
			assert.Equal(t, c.refusal, refusal)
		})
	}
}

func TestExplainsNothingElse(t *testing.T) {
	t.Parallel()
	cl, err := kgo.NewClient()
	require.NoError(t, err)
	defer cl.Close()
	for _, plain := range []error{io.EOF, context.Canceled, errors.New("x"), &net.OpError{Op: "dial", Err: errors.New("refused")}} {
		refusal, err := Explain(cl, plain)
		assert.Equal(t, plain, err)
		assert.Equal(t, NoRefusal, refusal)
	}
}

// One of several brokers that does not let the client in is trouble of that broker's.
func TestRefusedByOneOfSeveral(t *testing.T) {
	t.Parallel()
	cluster, cert, opts := kafkatest.Secure(t, kfake.NumBrokers(1))
	other, _, _ := kafkatest.Secure(t)
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(other.ListenAddrs()[0], cluster.ListenAddrs()[0]))...)
	require.NoError(t, err)
	defer cl.Close()
	refusal := func() error {
		stranger, err := kgo.NewClient(kgo.SeedBrokers(other.ListenAddrs()...), cert.Dial())
		require.NoError(t, err)
		defer stranger.Close()
		return stranger.Ping(t.Context())
	}()
	r, err := Refused(t.Context(), cl, refusal)
	require.ErrorContains(t, err, "does not trust")
	assert.Equal(t, Passing, r)
	cluster.Close()
	r, _ = Refused(t.Context(), cl, refusal)
	assert.Equal(t, Lasting, r)
}
