package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
)

// Refusal is what an error says of getting into a cluster.
type Refusal uint8

const (
	NoRefusal Refusal = iota // it is about something else
	Passing                  // it may go away by itself: a broker closes connections when it starts and stops too
	Lasting                  // the broker, or this client, will refuse the other until somebody acts (rule B8)
)

// Explain says of an error of cl for people what is wrong with TLS or the login, and what to do. Other errors
// come back as they are. No text of it has a password: kgo puts none in its errors.
func Explain(cl *kgo.Client, err error) (r Refusal, explained error) {
	why, r := explain(cl, err)
	if r == NoRefusal {
		return r, err
	}
	return r, fmt.Errorf("%s: %w", why, err)
}

// Refused is Explain of an error with which a question to the cluster ended. Where another of several brokers lets
// the client in, the refusal is not the cluster's, and not lasting.
func Refused(ctx context.Context, cl *kgo.Client, err error) (r Refusal, explained error) {
	r, err = Explain(cl, err)
	if r == Lasting && max(len(cl.SeedBrokers()), len(cl.DiscoveredBrokers())) > 1 {
		ctx, cancel := context.WithTimeout(ctx, refusedWait)
		defer cancel()
		if cl.Ping(ctx) == nil {
			r = Passing
		}
	}
	return r, err
}

// refusedWait is how long the other brokers are asked.
const refusedWait = 5 * time.Second

func explain(cl *kgo.Client, err error) (string, Refusal) {
	var (
		untrusted *tls.CertificateVerificationError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		noTLS     tls.RecordHeaderError
		network   *net.OpError
		closed    *kgo.ErrFirstReadEOF
	)
	mechanisms, _ := cl.OptValue(kgo.SASL).([]sasl.Mechanism)
	switch {
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "authentication failed: the broker does not take this name with this password; mend what kgo.SASL in Opts has, or the user on the broker", Lasting
	case errors.Is(err, kerr.UnsupportedSaslMechanism):
		return fmt.Sprintf("authentication failed: the broker does not know %s; give kgo.SASL in Opts a mechanism that it has (sasl.enabled.mechanisms)", named(mechanisms)), Lasting
	case errors.Is(err, kerr.IllegalSaslState):
		return "authentication failed: this port of the broker takes no login; leave kgo.SASL out of Opts, or give the port that does", Lasting
	case errors.As(err, &name):
		return "TLS: the broker's certificate is for other names; give Brokers by one of them, and see that advertised.listeners does too", Lasting
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "TLS: the broker's certificate has expired or is not valid yet; renew it, or mend this machine's clock", Lasting
	case errors.As(err, &untrusted):
		return "TLS: this client does not trust the broker's certificate; give kgo.DialTLSConfig in Opts the CA that signed it (RootCAs)", Lasting
	case errors.As(err, &network) && network.Op == "remote error": // a TLS alert; crypto/tls has no type for it
		return "TLS: the broker refused the handshake; if it asks for a certificate (ssl.client.auth), give kgo.DialTLSConfig in Opts one that it trusts", Lasting
	case errors.As(err, &noTLS):
		return "TLS: this port of the broker does not speak it; leave kgo.DialTLSConfig out of Opts, or give the port that does", Lasting
	case strings.Contains(err.Error(), "plaintext connection speaking to a tls endpoint"): // kgo has no type for it
		return "TLS: this port of the broker wants it, and this client does not speak it; give kgo.DialTLSConfig in Opts", Lasting
	case errors.As(err, &closed):
		return "the broker, or what lies before it, closed the connection at once: it is starting or stopping, or it wants TLS or authentication (see kgo.DialTLSConfig and kgo.SASL in Opts)", Passing
	case errors.Is(err, io.EOF) && len(mechanisms) > 0:
		return "the broker closed the connection, as some do when the name or the password is wrong (kgo.SASL in Opts)", Passing
	}
	return "", NoRefusal
}

func named(mechanisms []sasl.Mechanism) string {
	if len(mechanisms) == 0 {
		return "the mechanism"
	}
	return mechanisms[0].Name()
}

// Seeds are the addresses that cl was given, for people.
func Seeds(cl *kgo.Client) string {
	seeds, _ := cl.OptValue(kgo.SeedBrokers).([]string)
	return strings.Join(seeds, ", ")
}
