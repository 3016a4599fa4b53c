package kafkasink_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafkatest"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/source/kafkasource"
)

// Rule J3 over TLS and with a password: rows, letters and positions once, and a second process goes on behind them.
func TestExactlyOnceOverTLSAndSCRAM(t *testing.T) {
	t.Parallel()
	cluster, _, login := kafkatest.Secure(t)
	j := &job{brokers: cluster.ListenAddrs(), opts: login, name: "pedidos", rows: 40, bad: map[int]bool{3: true, 39: true}, letters: true, drain: true}
	j.make(t)
	want := j.want()
	slices.Sort(want)
	for range 2 {
		j.config = leat.Config{StateDir: t.TempDir(), CheckpointEvery: 3 * time.Millisecond, Logger: env(t).Logger}
		require.NoError(t, j.build().Run(t.Context()))
		got := j.got(t)
		slices.Sort(got)
		assert.Equal(t, want, got)
	}
	var letters []string
	for l, err := range kafkasink.ReadDeadLetters(t.Context(), kafkasink.LettersConfig{Brokers: j.brokers, Topic: j.topic("bad"), Opts: login}) {
		require.NoError(t, err)
		letters = append(letters, string(l.Raw))
	}
	assert.ElementsMatch(t, []string{`{"id":3,`, `{"id":39,`}, letters)
}

// users are pipelines of which one part only has the options that are tested.
func users(brokers []string, login, opts []kgo.Opt) map[string]func(leat.Config) *leat.Pipeline {
	from := func(p *leat.Pipeline) (leat.Flow[pedido], *kafkasource.Source[pedido]) {
		src := kafkasource.New(kafkasource.Config[pedido]{Brokers: brokers, Topics: []string{"in"}, Group: "g", Opts: login})
		return leat.From(p, src), src
	}
	return map[string]func(leat.Config) *leat.Pipeline{
		"source": func(c leat.Config) *leat.Pipeline {
			p := leat.New("prueba", c)
			src := kafkasource.New(kafkasource.Config[pedido]{Brokers: brokers, Topics: []string{"in"}, Group: "g", Opts: opts})
			leat.To(leat.From(p, src), leattest.Collect[pedido]())
			return p
		},
		"sink": func(c leat.Config) *leat.Pipeline {
			p := leat.New("prueba", c)
			leat.To(leat.From(p, leattest.Rows("a", "b")), kafkasink.New(kafkasink.Config[string]{Brokers: brokers, Topic: "out", Opts: opts}))
			return p
		},
		"transaction": func(c leat.Config) *leat.Pipeline {
			p := leat.New("prueba", c)
			rows, src := from(p)
			tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers, Opts: opts})
			leat.To(rows, kafkasink.New(kafkasink.Config[pedido]{Transaction: tx, Topic: "out"}))
			return p
		},
		"letters": func(c leat.Config) *leat.Pipeline {
			c.DeadLetters = kafkasink.DeadLetters(kafkasink.LettersConfig{Brokers: brokers, Topic: "out", Opts: opts})
			p := leat.New("prueba", c)
			leat.To(leat.From(p, leattest.Rows("a", "b")), leattest.Collect[string]())
			return p
		},
	}
}

// Who is not let in hears where, why and what to do, and no password. What stays so until somebody acts ends the
// run at once; a connection that was closed without a word is tried again, with a pause (rule B8).
func TestNotLetIn(t *testing.T) {
	t.Parallel()
	const wrong = "Falsch-und-lang"
	for name, c := range map[string]struct {
		opts  func(cluster *kfake.Cluster, cert *kafkatest.Certificate, login kgo.Opt) []kgo.Opt
		want  []string
		again bool
	}{
		"wrong password": {
			opts: func(cluster *kfake.Cluster, cert *kafkatest.Certificate, _ kgo.Opt) []kgo.Opt {
				kafkatest.Refuse(cluster)
				return []kgo.Opt{cert.Dial(), kafkatest.Login(kafkatest.User, wrong)}
			},
			want: []string{"authentication failed", "does not take this name with this password", "SASL_AUTHENTICATION_FAILED"},
		},
		"no TLS": {
			opts: func(_ *kfake.Cluster, _ *kafkatest.Certificate, login kgo.Opt) []kgo.Opt { return []kgo.Opt{login} },
			want: []string{"TLS", "kgo.DialTLSConfig"}, again: true, // Kafka says more, see TestRealNotLetIn
		},
		"a certificate that nobody vouches for": {
			opts: func(_ *kfake.Cluster, _ *kafkatest.Certificate, login kgo.Opt) []kgo.Opt {
				return []kgo.Opt{kgo.DialTLS(), login}
			},
			want: []string{"does not trust the broker's certificate", "RootCAs", "unknown authority"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, cert, login := kafkatest.Secure(t, kfake.SeedTopics(1, "in", "out"))
			opts := c.opts(cluster, cert, login[1])
			for name, build := range users(cluster.ListenAddrs(), login, opts) {
				var log kafkatest.Lines
				began := time.Now()
				err := build(leat.Config{StateDir: t.TempDir(), Logger: log.Logger(t), Retry: leat.Retry{First: 10 * time.Millisecond, Attempts: 2}}).Run(t.Context())
				require.Error(t, err, name)
				assert.Less(t, time.Since(began), 15*time.Second, name)
				for _, want := range append(c.want, "brokers "+cluster.ListenAddrs()[0]) {
					assert.ErrorContains(t, err, want, name)
				}
				assert.Equal(t, c.again, leat.IsTransient(err), name)
				for _, secret := range []string{wrong, kafkatest.Password} {
					assert.NotContains(t, err.Error(), secret, name)
					assert.NotContains(t, log.String(), secret, name)
				}
			}
			for _, err := range kafkasink.ReadDeadLetters(t.Context(), kafkasink.LettersConfig{Brokers: cluster.ListenAddrs(), Topic: "out", Opts: opts}) {
				for _, want := range append(c.want, "brokers "+cluster.ListenAddrs()[0]) {
					require.ErrorContains(t, err, want)
				}
			}
		})
	}
}

// A password that is changed while a sink writes ends the pipeline, once the broker asks again: the life ends
// (rule E8), and no other can begin.
func TestPasswordChangesWhileWriting(t *testing.T) {
	t.Parallel()
	cluster, _, login := kafkatest.Secure(t, kfake.SeedTopics(1, "out"), kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "2000"}))
	s := kafkasink.New(kafkasink.Config[string]{Brokers: cluster.ListenAddrs(), Topic: "out", Opts: login})
	e := env(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	round := func() error {
		if err := s.Write(ctx, batch("a")); err != nil {
			return err
		}
		_, err := s.Commit(ctx, leat.Checkpoint{})
		return err
	}
	require.NoError(t, s.Open(ctx, e))
	require.NoError(t, round())
	kafkatest.Refuse(cluster)
	var err error
	for err == nil { // until the login has run out
		time.Sleep(50 * time.Millisecond)
		err = round()
	}
	require.ErrorIs(t, err, leat.ErrAborted)
	require.NoError(t, s.Close())
	err = s.Open(ctx, e)
	require.ErrorIs(t, err, kerr.SaslAuthenticationFailed)
	assert.ErrorContains(t, err, "does not take this name with this password")
	assert.False(t, leat.IsTransient(err))
}

// What the ACLs do not allow ends the run and is named, and no row is rejected for it (rule B8).
func TestNotAllowedInTransactions(t *testing.T) {
	t.Parallel()
	acl := func(kind kmsg.ACLResourceType, name string, op kmsg.ACLOperation) kfake.ACL {
		return kfake.ACL{Resource: kind, Name: name, Pattern: kmsg.ACLResourcePatternTypePrefixed, Operation: op, Allow: true}
	}
	id := acl(kmsg.ACLResourceTypeTransactionalId, "prueba-g", kmsg.ACLOperationWrite)
	out := acl(kmsg.ACLResourceTypeTopic, "out", kmsg.ACLOperationWrite)
	group := acl(kmsg.ACLResourceTypeGroup, "g", kmsg.ACLOperationRead)
	in := acl(kmsg.ACLResourceTypeTopic, "in", kmsg.ACLOperationRead)
	for name, c := range map[string]struct {
		acls []kfake.ACL
		err  error
		want string
	}{
		"all that is needed":       {[]kfake.ACL{id, out, group, in}, nil, ""},
		"no transactional id":      {[]kfake.ACL{out, group, in}, kerr.TransactionalIDAuthorizationFailed, "transactional id prueba-g-"},
		"nothing of the topic":     {[]kfake.ACL{id, group, in}, kerr.TopicAuthorizationFailed, "topic out"},
		"no writing to the topic":  {[]kfake.ACL{id, group, in, acl(kmsg.ACLResourceTypeTopic, "out", kmsg.ACLOperationDescribe)}, kerr.TopicAuthorizationFailed, "topic out"},
		"no group":                 {[]kfake.ACL{id, out, in}, kerr.GroupAuthorizationFailed, "group g"},
		"no reading of the source": {[]kfake.ACL{id, out, group}, kerr.TopicAuthorizationFailed, "topic in"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, cert, login := kafkatest.Secure(t, kfake.SeedTopics(1, "in", "out"), kfake.EnableACLs(), kfake.User("SCRAM-SHA-256", "writer", "Schr3ib", c.acls...))
			brokers := cluster.ListenAddrs()
			require.NoError(t, client(t, brokers, login...).ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte(`{"id":1}`)}).FirstErr())
			opts := []kgo.Opt{cert.Dial(), kafkatest.Login("writer", "Schr3ib")}
			p := leat.New("prueba", leat.Config{StateDir: t.TempDir(), Logger: env(t).Logger, Retry: leat.Retry{First: 10 * time.Millisecond, Max: 100 * time.Millisecond}})
			src := kafkasource.New(kafkasource.Config[pedido]{Brokers: brokers, Topics: []string{"in"}, Group: "g", Drain: true, Opts: opts})
			tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers, Opts: opts})
			leat.To(leat.From(p, src), kafkasink.New(kafkasink.Config[pedido]{Transaction: tx, Topic: "out"}))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			err := p.Run(ctx)
			require.NoError(t, ctx.Err(), "it did not end")
			assert.Empty(t, p.Stats().Run.Rejected)
			if c.err == nil {
				require.NoError(t, err)
				assert.Len(t, readAll(t, brokers, "out", login...), 1)
				return
			}
			require.ErrorIs(t, err, c.err)
			assert.ErrorContains(t, err, c.want)
		})
	}
}

// Rule B8: one of several brokers that refuses the login while the sink writes, and another does not, is tried again.
func TestOneBrokerRefusesWhileWriting(t *testing.T) {
	t.Parallel()
	cluster, _, login := kafkatest.Secure(t, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"), kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": "1000"}))
	leader := cluster.LeaderFor("t", 0)
	s := kafkasink.New(kafkasink.Config[string]{Brokers: cluster.ListenAddrs(), Topic: "t", Opts: login})
	ctx, e := t.Context(), env(t)
	round := func() error {
		b := batch("a")
		if err := s.Write(ctx, b); err != nil {
			return err
		}
		_, err := s.Commit(ctx, leat.Checkpoint{})
		return err
	}
	require.NoError(t, s.Open(ctx, e))
	require.NoError(t, round())
	var mended atomic.Bool
	cluster.ControlKey(int16(kmsg.SASLAuthenticate), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if mended.Load() || cluster.CurrentNode() != leader {
			return nil, nil, false
		}
		resp := req.ResponseKind().(*kmsg.SASLAuthenticateResponse)
		resp.ErrorCode = kerr.SaslAuthenticationFailed.Code
		return resp, nil, true
	})
	var err error
	for end := time.Now().Add(10 * time.Second); err == nil && time.Now().Before(end); { // until the login has run out
		time.Sleep(50 * time.Millisecond)
		err = round()
	}
	require.ErrorIs(t, err, leat.ErrAborted)
	require.NoError(t, s.Close())
	if err = s.Open(ctx, e); err != nil {
		require.True(t, leat.IsTransient(err), err)
	}
	mended.Store(true)
	for end := time.Now().Add(10 * time.Second); err != nil && time.Now().Before(end); {
		err = s.Open(ctx, e)
	}
	require.NoError(t, err)
	require.NoError(t, round())
	require.NoError(t, s.Close())
}
