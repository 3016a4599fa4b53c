package kafkasink_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	saslplain "github.com/twmb/franz-go/pkg/sasl/plain"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
)

// fortress is a Kafka server of this test's own, which asks for TLS, a password (SCRAM-SHA-256) and ACLs. Its open
// port is for the test alone: who comes by it may do all.
type fortress struct {
	open, secure []string
	adm          *kadm.Client
	cert         *kafkatest.Certificate
}

// newFortress starts the server. Its ports are 24092 and 100 and 200 more; LEAT_SECURE_PORT moves them.
func newFortress(t *testing.T) *fortress {
	t.Helper()
	realBrokers(t) // who has not asked for tests with servers gets none
	cert := kafkatest.NewCertificate(t)
	keystore := filepath.Join(t.TempDir(), "broker.pem")
	require.NoError(t, os.WriteFile(keystore, cert.PEM, 0o600))
	port := kafkatest.Number("LEAT_SECURE_PORT", 24092)
	at := func(more int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port+more)) }
	f := &fortress{open: []string{at(0)}, secure: []string{at(200)}, cert: cert}
	instance := kafkatest.NewInstance(t, "secure", port, "KAFKA_PROPS="+strings.Join([]string{
		"listeners=PLAINTEXT://" + at(0) + ",CONTROLLER://" + at(100) + ",SASL_SSL://" + at(200),
		"advertised.listeners=PLAINTEXT://" + at(0) + ",SASL_SSL://" + at(200),
		"listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
		"ssl.keystore.type=PEM",
		"ssl.keystore.location=" + keystore,
		"sasl.enabled.mechanisms=SCRAM-SHA-256",
		"listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
	}, "\n"))
	require.NoError(t, instance.Run("wipe")) // what an earlier run may have left
	t.Cleanup(func() { assert.NoError(t, instance.Run("wipe")) })
	require.NoError(t, instance.Run("start", "1"))
	f.adm = kadm.NewClient(client(t, f.open))
	return f
}

// user makes one who may do these things with what begins with the names.
func (f *fortress) user(t *testing.T, name, password string, acls ...*kadm.ACLBuilder) []kgo.Opt {
	t.Helper()
	users, err := f.adm.AlterUserSCRAMs(t.Context(), nil, []kadm.UpsertSCRAM{{User: name, Mechanism: kadm.ScramSha256, Iterations: 4096, Password: password}})
	require.NoError(t, err)
	require.NoError(t, users.Error())
	for _, acl := range acls {
		made, err := f.adm.CreateACLs(t.Context(), acl.ResourcePatternType(kadm.ACLPatternPrefixed).Allow("User:"+name).AllowHosts("*"))
		require.NoError(t, err)
		for _, m := range made {
			require.NoError(t, m.Err)
		}
	}
	opts := []kgo.Opt{f.cert.Dial(), kafkatest.Login(name, password)}
	// The broker learns of users and ACLs a moment after it has answered.
	cl := client(t, f.secure, opts...)
	require.Eventually(t, func() bool { return cl.Ping(t.Context()) == nil }, 10*time.Second, 50*time.Millisecond)
	return opts
}

// What a Kafka server does that asks for TLS, a password and ACLs.
func TestRealSecure(t *testing.T) {
	f := newFortress(t)
	topics := func(names ...string) *kadm.ACLBuilder { return kadm.NewACLs().Topics(names...) }
	group := func() *kadm.ACLBuilder { return kadm.NewACLs().Groups("pedidos").Operations(kadm.OpRead) }
	id := func() *kadm.ACLBuilder { return kadm.NewACLs().TransactionalIDs("pedidos").Operations(kadm.OpWrite) }

	// Rule J3, with no more ACLs than docs/kafka.md names.
	t.Run("exactly once", func(t *testing.T) {
		j := &job{brokers: f.secure, name: "pedidos", rows: 200, bad: map[int]bool{3: true, 199: true}, letters: true, drain: true}
		open := *j
		open.brokers = f.open
		open.make(t)
		j.opts = f.user(t, "app", "Geh3im-1", group(), id(), topics("pedidos-in").Operations(kadm.OpRead),
			topics("pedidos-all", "pedidos-even", "pedidos-bad").Operations(kadm.OpWrite))
		want := j.want()
		slices.Sort(want)
		for _, read := range []int64{200, 0} {
			j.config = leat.Config{StateDir: t.TempDir(), CheckpointEvery: 20 * time.Millisecond, Logger: env(t).Logger}
			p := j.build()
			require.NoError(t, p.Run(t.Context()))
			assert.Equal(t, read, p.Stats().Run.In)
			var got []string
			// A transaction's last step is the broker's own, a moment after its answer.
			for end := time.Now().Add(10 * time.Second); len(got) < len(want) && time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
				got = open.got(t)
			}
			slices.Sort(got)
			assert.Equal(t, want, got)
		}
	})

	t.Run("not let in", func(t *testing.T) {
		const password, wrong = "Geh3im-2", "Falsch-und-lang"
		right := f.user(t, "guest", password)
		tls, login := right[0], right[1]
		for name, c := range map[string]struct {
			brokers []string
			opts    []kgo.Opt
			want    string
			again   bool
		}{
			"wrong password": {f.secure, []kgo.Opt{tls, kafkatest.Login("guest", wrong)}, "does not take this name with this password", false},
			"no such user":   {f.secure, []kgo.Opt{tls, kafkatest.Login("nobody", wrong)}, "does not take this name with this password", false},
			"mechanism":      {f.secure, []kgo.Opt{tls, kgo.SASL(saslplain.Auth{User: "guest", Pass: wrong}.AsMechanism())}, "does not know PLAIN", false},
			"no TLS":         {f.secure, []kgo.Opt{login}, "this client does not speak it; give kgo.DialTLSConfig", false},
			"untrusted":      {f.secure, []kgo.Opt{kgo.DialTLS(), login}, "does not trust the broker's certificate", false},
			"no login":       {f.secure, []kgo.Opt{tls}, "kgo.SASL", true},
			"TLS, open port": {f.open, []kgo.Opt{tls}, "kgo.DialTLSConfig", true},
			"open port":      {f.open, []kgo.Opt{login}, "takes no login", false},
		} {
			t.Run(name, func(t *testing.T) {
				for part, build := range users(c.brokers, c.opts, c.opts) {
					var log kafkatest.Lines
					began := time.Now()
					err := build(leat.Config{StateDir: t.TempDir(), Logger: log.Logger(t), Retry: leat.Retry{First: 10 * time.Millisecond, Attempts: 2}}).Run(t.Context())
					require.ErrorContains(t, err, c.want, part)
					assert.ErrorContains(t, err, "brokers "+c.brokers[0], part)
					assert.Less(t, time.Since(began), 20*time.Second, part)
					assert.Equal(t, c.again, leat.IsTransient(err), part)
					for _, secret := range []string{password, wrong} {
						assert.NotContains(t, err.Error()+log.String(), secret, part)
					}
				}
			})
		}
	})

	// What the ACLs do not allow ends the run and is named, and no row is rejected for it (rule B8).
	t.Run("not allowed", func(t *testing.T) {
		_, err := f.adm.CreateTopics(t.Context(), 1, 1, nil, "in", "out")
		require.NoError(t, err)
		require.NoError(t, client(t, f.open).ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(`{"id":1}`)}).FirstErr())
		read := func() *kadm.ACLBuilder { return topics("in").Operations(kadm.OpRead) }
		write := func() *kadm.ACLBuilder { return topics("out").Operations(kadm.OpWrite) }
		n := 0
		for name, c := range map[string]struct {
			acls []*kadm.ACLBuilder
			err  error
			want string
		}{
			"no reading of the source": {[]*kadm.ACLBuilder{group(), id(), write()}, kerr.TopicAuthorizationFailed, "topic in"},
			"only to see the source":   {[]*kadm.ACLBuilder{group(), id(), write(), topics("in").Operations(kadm.OpDescribe)}, kerr.TopicAuthorizationFailed, "in"},
			"no group":                 {[]*kadm.ACLBuilder{id(), read(), write()}, kerr.GroupAuthorizationFailed, "group pedidos"},
			"no transactional id":      {[]*kadm.ACLBuilder{group(), read(), write()}, kerr.TransactionalIDAuthorizationFailed, "transactional id pedidos-"},
			"nothing of the topic":     {[]*kadm.ACLBuilder{group(), id(), read()}, kerr.TopicAuthorizationFailed, "topic out"},
			"no writing to the topic":  {[]*kadm.ACLBuilder{group(), id(), read(), topics("out").Operations(kadm.OpDescribe)}, kerr.TopicAuthorizationFailed, "topic out"},
		} {
			n++
			opts := f.user(t, fmt.Sprintf("user-%d", n), "Geh3im-3", c.acls...)
			t.Run(name, func(t *testing.T) {
				p := leat.New("pedidos", leat.Config{StateDir: t.TempDir(), Logger: env(t).Logger, Retry: leat.Retry{First: 10 * time.Millisecond, Max: 100 * time.Millisecond}})
				src := kafkasource.New(kafkasource.Config[pedido]{Brokers: f.secure, Topics: []string{"in"}, Group: "pedidos-2", Drain: true, Opts: opts})
				tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: f.secure, Opts: opts})
				leat.To(leat.From(p, src), kafkasink.New(kafkasink.Config[pedido]{Transaction: tx, Topic: "out"}))
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				err := p.Run(ctx)
				require.NoError(t, ctx.Err(), "it did not end: %v", err)
				require.ErrorIs(t, err, c.err)
				assert.ErrorContains(t, err, c.want)
				assert.Empty(t, p.Stats().Run.Rejected)
			})
		}
	})
}
