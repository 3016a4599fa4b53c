package kafkasource

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
)

// Rule H4: at no moment is what an earlier member had worth anything under the new one's name, by which the group
// would take it.
func TestTokensOfEarlierMember(t *testing.T) {
	t.Parallel()
	w := broker(t, 1, "in")
	s := New(w.member("g", "in"))
	s.member.Store(w.client())
	who, becomes := "A", ""
	s.own.as(func() (string, int32) {
		id := who
		if becomes != "" {
			who = becomes // as soon as it was asked for
		}
		return id, 1
	})
	tp := topicPartition{Topic: "in"}
	s.own.gained(who, []topicPartition{tp})
	have := map[topicPartition]uint64{tp: s.own.token(tp)}

	becomes = "B"
	m, err := s.Member(have)
	require.NoError(t, err)
	assert.Equal(t, "A", m.ID)
	_, err = s.Member(have)
	require.ErrorIs(t, err, leat.ErrFenced)

	assert.Equal(t, []topicPartition{tp}, s.own.stale(who)) // and it is being told what it has now
	_, err = s.Member(have)
	require.ErrorIs(t, err, leat.ErrFenced)
	s.own.lost([]topicPartition{tp})
	s.own.gained(who, []topicPartition{tp})
	_, err = s.Member(have)
	require.ErrorIs(t, err, leat.ErrFenced)
	m, err = s.Member(map[topicPartition]uint64{tp: s.own.token(tp)})
	require.NoError(t, err)
	assert.Equal(t, "B", m.ID)
}
