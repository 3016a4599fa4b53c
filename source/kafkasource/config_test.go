package kafkasource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat/codec/avrocodec"
)

func TestName(t *testing.T) {
	t.Parallel()
	for want, c := range map[string]Config[rec]{
		"n":   {Name: "n", Group: "g"},
		"g":   {Group: "g", Topics: []string{"a"}},
		"a,b": {Topics: []string{"a", "b"}},
		"p.*": {Pattern: "p.*"},
		"x,y": {Partitions: map[string][]int32{"y": {0}, "x": {1}}},
	} {
		assert.Equal(t, want, New(c).Name())
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	good := Config[rec]{Brokers: []string{"b:1"}, Topics: []string{"in"}}
	require.NoError(t, New(good).Validate())
	for want, change := range map[string]func(c *Config[rec]){
		"Brokers is empty":                    func(c *Config[rec]) { c.Brokers = nil },
		"exactly one of Topics, Pattern":      func(c *Config[rec]) { c.Topics = nil },
		"exactly one of Topics, Pattern and":  func(c *Config[rec]) { c.Pattern = "x" },
		"Topics has an empty name":            func(c *Config[rec]) { c.Topics = []string{""} },
		"Pattern: error parsing":              func(c *Config[rec]) { c.Topics, c.Pattern = nil, "(" },
		"a group shares partitions out":       func(c *Config[rec]) { c.Topics, c.Group, c.Partitions = nil, "g", map[string][]int32{"a": {0}} },
		"InstanceID without Group":            func(c *Config[rec]) { c.InstanceID = "i" },
		"name the topic and one partition":    func(c *Config[rec]) { c.Topics, c.Partitions = nil, map[string][]int32{"a": {}} },
		"-1 is negative":                      func(c *Config[rec]) { c.Topics, c.Partitions = nil, map[string][]int32{"a": {-1}} },
		"one is named twice":                  func(c *Config[rec]) { c.Topics, c.Partitions = nil, map[string][]int32{"a": {1, 1}} },
		"Start 7":                             func(c *Config[rec]) { c.Start = 7 },
		"Start and StartAt are both set":      func(c *Config[rec]) { c.Start, c.StartAt = Latest, time.Now() },
		"OutOfRange 9":                        func(c *Config[rec]) { c.OutOfRange = 9 },
		"MaxMessages -1":                      func(c *Config[rec]) { c.MaxMessages = -1 },
		"ChunkRows -1":                        func(c *Config[rec]) { c.ChunkRows = -1 },
		"Idle -1s is negative":                func(c *Config[rec]) { c.Idle = -time.Second },
		"more than half of SessionTimeout":    func(c *Config[rec]) { c.RevokeBudget = 30 * time.Second },
		"Extra 7":                             func(c *Config[rec]) { c.Extra = 7 },
		"Missing 7":                           func(c *Config[rec]) { c.Missing = 7 },
		"RepeatedKeys 7":                      func(c *Config[rec]) { c.RepeatedKeys = 7 },
		"MaxDepth -1":                         func(c *Config[rec]) { c.MaxDepth = -1 },
		"only one of Raw, Codec and Decode":   func(c *Config[rec]) { c.Raw, c.Codec = true, failing{} },
		"must be []byte or string, or have e": func(c *Config[rec]) { c.Raw = true },
	} {
		c := good
		change(&c)
		assert.ErrorContains(t, New(c).Validate(), "kafkasource: ", want)
		assert.ErrorContains(t, New(c).Validate(), want)
	}
	assert.ErrorContains(t, New(Config[[]byte]{Brokers: []string{"b:1"}, Topics: []string{"in"}}).Validate(), "for values as they are, set Raw")
	assert.ErrorContains(t, New(Config[struct{ F func() }]{Brokers: []string{"b:1"}, Topics: []string{"in"}}).Validate(), "can't be read from JSON")
}

// The zero Config is refused, and neither Close nor Lag minds that nothing ran.
func TestZero(t *testing.T) {
	t.Parallel()
	s := New(Config[rec]{})
	assert.Error(t, s.Validate())
	assert.Empty(t, s.Lag())
	assert.Zero(t, s.Token(topicPartition{}))
	assert.Nil(t, s.Client())
	assert.NoError(t, s.Close())
	assert.NoError(t, s.Close())
}

// What a probe says of a log in which nothing is left to read (rule H2).
func TestProbe(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	w.fill("in", 1, 0, 3)
	tx := w.client(kgo.TransactionalID("tx"))
	require.NoError(t, tx.BeginTransaction())
	require.NoError(t, tx.ProduceSync(t.Context(), &kgo.Record{Topic: "in", Value: []byte("x")}, &kgo.Record{Topic: "in", Value: []byte("y")}).FirstErr())
	require.NoError(t, tx.EndTransaction(t.Context(), kgo.TryAbort))
	s := New(w.config("in"))
	defer s.Close()
	require.NoError(t, s.connect(t.Context()))
	tp := topicPartition{Topic: "in"}

	next, any, err := s.probe(t.Context(), s.Client(), tp, 2)
	require.NoError(t, err)
	assert.True(t, any, "a record is there")
	assert.EqualValues(t, 6, next)
	next, any, err = s.probe(t.Context(), s.Client(), tp, 3)
	require.NoError(t, err)
	assert.False(t, any, "what is there is aborted")
	assert.EqualValues(t, 6, next, "behind the marker")
}

// Package codec's decoders are ours, and do not import us.
var _ Decoder[rec] = (*avrocodec.Codec[rec])(nil)

// Rule H3: the group waits for a member that gives partitions up as long as that may take.
func TestRevokeBudgetAndTheGroup(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	c := w.member("g", "in")
	c.SessionTimeout, c.RevokeBudget = 5*time.Minute, 2*time.Minute
	s := New(c)
	require.NoError(t, s.Validate())
	require.NoError(t, s.connect(t.Context()))
	got := s.member.Load().OptValue(kgo.RebalanceTimeout)
	require.NoError(t, s.Close())
	assert.Greater(t, got, c.RevokeBudget)
}
