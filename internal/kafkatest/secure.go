// Package kafkatest has brokers for tests: one within the process that asks for TLS and a password, the
// certificates for that, and real ones of a test's own.
package kafkatest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Certificate is one of a broker on 127.0.0.1, which vouches for itself.
type Certificate struct {
	PEM  []byte // the key and the certificate, as a broker's keystore of type PEM has them
	pair tls.Certificate
	pool *x509.CertPool
}

// NewCertificate makes one.
func NewCertificate(t testing.TB) *Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "leat tests"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}, DNSNames: []string{"localhost"},
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	c := &Certificate{PEM: bytes.Join([][]byte{keyPEM, certPEM}, nil), pool: x509.NewCertPool()}
	c.pair, err = tls.X509KeyPair(certPEM, keyPEM)
	require.NoError(t, err)
	require.True(t, c.pool.AppendCertsFromPEM(certPEM))
	return c
}

// Server is what a broker with the certificate listens with.
func (c *Certificate) Server() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{c.pair}, MinVersion: tls.VersionTLS12}
}

// Client is what trusts the certificate.
func (c *Certificate) Client() *tls.Config {
	return &tls.Config{RootCAs: c.pool, MinVersion: tls.VersionTLS12}
}

// Dial makes a client speak TLS, and trust the certificate.
func (c *Certificate) Dial() kgo.Opt { return kgo.DialTLSConfig(c.Client()) }

// Who may log in at brokers of Secure, and do all there.
const (
	User     = "leat"
	Password = "Geh3im-und-lang"
)

// Login gives a client a name and a password.
func Login(user, password string) kgo.Opt {
	return kgo.SASL(scram.Auth{User: user, Pass: password}.AsSha256Mechanism())
}

// Refuse makes the broker answer logins from now on as Kafka answers a wrong password; kfake itself closes the
// connection. Who is logged in stays so until the broker asks again (connections.max.reauth.ms).
func Refuse(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		resp.ErrorMessage = kmsg.StringPtr("Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256")
		return resp, nil, true
	})
}

// Secure starts a broker with TLS and SCRAM-SHA-256. A client needs opts.
func Secure(t testing.TB, more ...kfake.Opt) (cluster *kfake.Cluster, cert *Certificate, opts []kgo.Opt) {
	t.Helper()
	cert = NewCertificate(t)
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.TLS(cert.Server()), kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", User, Password),
		kfake.GroupMinSessionTimeout(100 * time.Millisecond),
	}, more...)...)
	require.NoError(t, err)
	t.Cleanup(cluster.Close)
	return cluster, cert, []kgo.Opt{cert.Dial(), Login(User, Password)}
}
