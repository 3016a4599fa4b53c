package kafkasource

import (
	"crypto/tls"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
)

// secure starts a broker that asks for TLS and a password, with a topic of 20 rows.
func secure(t *testing.T, opts ...kfake.Opt) (*world, *kafkatest.Certificate, []kgo.Opt) {
	t.Helper()
	cluster, cert, login := kafkatest.Secure(t, append(opts, kfake.SeedTopics(2, "in"))...)
	w := &world{t: t, cluster: cluster, brokers: cluster.ListenAddrs()}
	w.cl = w.client(login...)
	w.adm = kadm.NewClient(w.cl)
	w.fill("in", 2, 0, 20)
	return w, cert, login
}

// ways are the two in which a source reads.
func (w *world) ways() map[string]Config[rec] {
	fixed := w.config()
	fixed.Name, fixed.Partitions = "src", map[string][]int32{"in": {0, 1}}
	return map[string]Config[rec]{"group": w.member("g", "in"), "partitions": fixed}
}

func TestReadsOverTLSAndSCRAM(t *testing.T) {
	t.Parallel()
	w, _, login := secure(t)
	for name, c := range w.ways() {
		t.Run(name, func(t *testing.T) {
			c.Opts = append(c.Opts, login...)
			dir := t.TempDir()
			rows, _ := life(t, dir, drain(c))
			once(t, rows, 20)
			rows, _ = life(t, dir, drain(c))
			once(t, rows, 20)
		})
	}
}

// Who is not let in hears where, why and what to do, and no password. What stays so until somebody acts ends
// the run at once; a connection that was closed without a word is tried again, with a pause (rule B8).
func TestNotLetIn(t *testing.T) {
	t.Parallel()
	const wrong = "Falsch-und-lang"
	type broker struct {
		w     *world
		cert  *kafkatest.Certificate
		login kgo.Opt
	}
	for name, c := range map[string]struct {
		broker []kfake.Opt
		opts   func(b broker) []kgo.Opt
		want   []string
		again  bool
	}{
		"wrong password": {
			opts: func(b broker) []kgo.Opt {
				kafkatest.Refuse(b.w.cluster)
				return []kgo.Opt{b.cert.Dial(), kafkatest.Login(kafkatest.User, wrong)}
			},
			want: []string{"authentication failed", "does not take this name with this password", "SASL_AUTHENTICATION_FAILED"},
		},
		"wrong password, and the broker closes the connection": {
			opts: func(b broker) []kgo.Opt {
				return []kgo.Opt{b.cert.Dial(), kafkatest.Login(kafkatest.User, wrong)}
			},
			want: []string{"closed the connection", "name or the password", "kgo.SASL"}, again: true,
		},
		"a mechanism that the broker has not": {
			opts: func(b broker) []kgo.Opt {
				b.w.cluster.ControlKey(int16(kmsg.SASLHandshake), func(req kmsg.Request) (kmsg.Response, error, bool) {
					b.w.cluster.KeepControl()
					resp := req.ResponseKind().(*kmsg.SASLHandshakeResponse)
					resp.ErrorCode, resp.SupportedMechanisms = kerr.UnsupportedSaslMechanism.Code, []string{"SCRAM-SHA-256"}
					return resp, nil, true
				})
				return []kgo.Opt{b.cert.Dial(), kgo.SASL(plain.Auth{User: kafkatest.User, Pass: wrong}.AsMechanism())}
			},
			want: []string{"does not know PLAIN", "kgo.SASL"},
		},
		"no login": {
			opts: func(b broker) []kgo.Opt { return []kgo.Opt{b.cert.Dial()} },
			want: []string{"authentication", "kgo.SASL"}, again: true,
		},
		"no TLS": {
			opts: func(b broker) []kgo.Opt { return []kgo.Opt{b.login} },
			want: []string{"TLS", "kgo.DialTLSConfig"}, again: true, // Kafka says more, see TestRealNotLetIn
		},
		"a certificate that nobody vouches for": {
			opts: func(b broker) []kgo.Opt { return []kgo.Opt{kgo.DialTLS(), b.login} },
			want: []string{"does not trust the broker's certificate", "RootCAs", "unknown authority"},
		},
		"a certificate for another name": {
			opts: func(b broker) []kgo.Opt {
				other := b.cert.Client()
				other.ServerName = "kafka.example"
				return []kgo.Opt{kgo.DialTLSConfig(other), b.login}
			},
			want: []string{"certificate is for other names", "kafka.example"},
		},
		"a certificate that has expired": {
			opts: func(b broker) []kgo.Opt {
				later := b.cert.Client()
				later.Time = func() time.Time { return time.Now().AddDate(1, 0, 0) }
				return []kgo.Opt{kgo.DialTLSConfig(later), b.login}
			},
			want: []string{"certificate has expired"},
		},
		"no certificate of the client's": {
			broker: []kfake.Opt{kfake.TLS(func() *tls.Config {
				server := kafkatest.NewCertificate(t).Server()
				server.ClientAuth = tls.RequireAnyClientCert
				return server
			}())},
			opts: func(b broker) []kgo.Opt {
				return []kgo.Opt{kgo.DialTLSConfig(&tls.Config{InsecureSkipVerify: true}), b.login} //nolint:gosec // the broker's is not what is tested
			},
			want: []string{"refused the handshake", "certificate"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, cert, login := kafkatest.Secure(t, append(c.broker, kfake.SeedTopics(2, "in"))...)
			w := &world{t: t, cluster: cluster, brokers: cluster.ListenAddrs()}
			opts := c.opts(broker{w, cert, login[1]})
			for _, config := range w.ways() {
				var log kafkatest.Lines
				config.Opts = append(config.Opts, opts...)
				p := leat.New("test", leat.Config{StateDir: t.TempDir(), Logger: log.Logger(t), Retry: leat.Retry{First: 10 * time.Millisecond, Attempts: 2}})
				leat.To(leat.From(p, New(config)), leattest.Collect[rec]())
				began := time.Now()
				err := p.Run(t.Context())
				require.Error(t, err)
				assert.Less(t, time.Since(began), 15*time.Second)
				for _, want := range append(c.want, "brokers "+w.brokers[0]) {
					assert.ErrorContains(t, err, want)
				}
				assert.Equal(t, c.again, leat.IsTransient(err))
				for _, secret := range []string{wrong, kafkatest.Password} {
					assert.NotContains(t, err.Error(), secret)
					assert.NotContains(t, log.String(), secret)
				}
			}
		})
	}
}

// A password that is changed while a pipeline runs ends it, once the broker asks again, instead of leaving it idle.
func TestPasswordChangesWhileReading(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"group", "partitions"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, _, login := secure(t, kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "2000"}))
			c := w.ways()[name]
			c.Opts = append(append(c.Opts, login...), kgo.MetadataMinAge(100*time.Millisecond), kgo.MetadataMaxAge(2*time.Second))
			sink := leattest.Collect[rec]().In(t.TempDir())
			r := start(t, c, sink)
			await(t, func() bool { return len(sink.Committed()) == 20 })
			kafkatest.Refuse(w.cluster)
			err := r.wait()
			require.ErrorIs(t, err, kerr.SaslAuthenticationFailed)
			assert.ErrorContains(t, err, "does not take this name with this password")
		})
	}
}

// Of several topics the one that may not be read is named, whether it is known before or when it is fetched.
func TestTopicNotAllowed(t *testing.T) {
	t.Parallel()
	allow := func(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Operation: op, Allow: true}
	}
	group := allow(kmsg.ACLResourceTypeGroup, "g", kmsg.ACLOperationRead)
	in := allow(kmsg.ACLResourceTypeTopic, "in", kmsg.ACLOperationRead)
	for name, acls := range map[string][]kfake.ACL{
		"nothing":  {group, in},
		"describe": {group, in, allow(kmsg.ACLResourceTypeTopic, "hidden", kmsg.ACLOperationDescribe)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, cert, _ := secure(t, kfake.SeedTopics(1, "hidden"), kfake.EnableACLs(), kfake.User("SCRAM-SHA-256", "reader", "Les3n", acls...))
			w.fill("hidden", 1, 0, 5)
			for name, c := range w.ways() {
				if name == "group" {
					c.Topics = []string{"in", "hidden"}
				} else {
					c.Partitions = maps.Clone(c.Partitions)
					c.Partitions["hidden"] = []int32{0}
				}
				c.Opts = append(c.Opts, cert.Dial(), kafkatest.Login("reader", "Les3n"))
				_, _, err := lifeErr(t, t.TempDir(), drain(c))
				require.ErrorIs(t, err, kerr.TopicAuthorizationFailed, name)
				assert.ErrorContains(t, err, "topic hidden", name)
				assert.False(t, leat.IsTransient(err), name)
			}
		})
	}
}

// A coordinator that does not let a process in ends the run, though other connections are open: the client would
// try for ever to join, and nothing else would ask.
func TestCoordinatorDoesNotLetIn(t *testing.T) {
	t.Parallel()
	w, _, login := secure(t)
	w.cluster.ControlKey(int16(kmsg.FindCoordinator), func(kmsg.Request) (kmsg.Response, error, bool) {
		kafkatest.Refuse(w.cluster)
		return nil, nil, false
	})
	c := w.member("g", "in")
	c.Opts = append(c.Opts, login...)
	err := start(t, c, leattest.Collect[rec]()).wait()
	require.ErrorIs(t, err, kerr.SaslAuthenticationFailed)
	assert.ErrorContains(t, err, "group g")
}
