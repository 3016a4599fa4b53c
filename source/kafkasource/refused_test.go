package kafkasource

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatgo/leat/leattest"
)

// What the group refuses for good ends the run, instead of being tried for ever.
func TestGroupRefuses(t *testing.T) {
	t.Parallel()
	for _, refusal := range []*kerr.Error{kerr.GroupAuthorizationFailed, kerr.InvalidSessionTimeout, kerr.InconsistentGroupProtocol, kerr.GroupMaxSizeReached} {
		t.Run(refusal.Message, func(t *testing.T) {
			t.Parallel()
			w := broker(t, 1, "in")
			w.fill("in", 1, 0, 10)
			w.cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
				w.cluster.KeepControl()
				resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
				resp.ErrorCode = refusal.Code
				return resp, nil, true
			})
			r := start(t, w.member("g", "in"), leattest.Collect[rec]().In(t.TempDir()))
			err := r.wait()
			require.ErrorIs(t, err, refusal)
			assert.ErrorContains(t, err, "group g")
		})
	}
}

// Two processes with one InstanceID: the older one ends and says why, and does not fence
// the newer one in turn.
func sameInstance(t *testing.T, w *world, group, topic string) {
	w.fill(topic, 2, 0, 10)
	c := w.member(group, topic)
	c.InstanceID = "one"
	dir := t.TempDir()
	sink := leattest.Collect[rec]().In(dir)
	a := start(t, c, sink)
	await(t, func() bool { return len(sink.Committed()) == 10 })
	b := start(t, c, leattest.Collect[rec]().In(dir))
	err := a.wait()
	require.ErrorIs(t, err, kerr.FencedInstanceID)
	assert.ErrorContains(t, err, `InstanceID "one"`)
	w.fill(topic, 2, 10, 20)
	await(t, func() bool { return len(leattest.Collect[rec]().In(dir).Committed()) >= 20 })
	select {
	case <-b.done:
		t.Errorf("the newer one ended: %v", b.err)
	case <-time.After(time.Second):
	}
	require.NoError(t, b.stop())
	once(t, leattest.Collect[rec]().In(dir).Committed(), 20)
}

func TestSameInstance(t *testing.T) {
	t.Parallel()
	sameInstance(t, broker(t, 2, "in"), "g", "in")
}

func TestRealSameInstance(t *testing.T) {
	w, topic := realBroker(t, 2)
	sameInstance(t, w, topic, topic)
}

// A session timeout that a broker does not take is an error that says so.
func TestRealSessionTimeout(t *testing.T) {
	w, topic := realBroker(t, 1)
	c := w.member(topic, topic)
	c.SessionTimeout = 20 * time.Hour
	r := start(t, c, leattest.Collect[rec]().In(t.TempDir()))
	err := r.wait()
	require.ErrorIs(t, err, kerr.InvalidSessionTimeout)
	assert.ErrorContains(t, err, "SessionTimeout")
}

// Offsets that can't be read for good end the run, instead of being asked for again.
func TestOffsetsThatCantBeRead(t *testing.T) {
	t.Parallel()
	for meta, want := range map[string]string{`{"leat":99}`: "newer version of leat", `{"leat":x`: "damaged"} {
		w := broker(t, 1, "in")
		w.fill("in", 1, 0, 10)
		_, err := kadm.NewClient(w.cl).CommitOffsets(t.Context(), "g", kadm.Offsets{"in": {0: {Topic: "in", At: 5, LeaderEpoch: -1, Metadata: meta}}})
		require.NoError(t, err)
		_, _, err = lifeErr(t, t.TempDir(), drain(w.member("g", "in")))
		require.ErrorContains(t, err, want)
	}
	w := broker(t, 1, "in")
	w.fill("in", 1, 0, 10)
	w.cluster.ControlKey(int16(kmsg.OffsetFetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		w.cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.OffsetFetchResponse)
		for _, g := range req.(*kmsg.OffsetFetchRequest).Groups {
			rg := kmsg.NewOffsetFetchResponseGroup()
			rg.Group, rg.ErrorCode = g.Group, kerr.GroupAuthorizationFailed.Code
			resp.Groups = append(resp.Groups, rg)
		}
		return resp, nil, true
	})
	_, _, err := lifeErr(t, t.TempDir(), drain(w.member("g", "in")))
	require.ErrorIs(t, err, kerr.GroupAuthorizationFailed)
}
