package kafka

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestParsePartition(t *testing.T) {
	t.Parallel()
	tp := TopicPartition{"a/b.c", 12}
	back, err := ParsePartition(tp.String())
	assert.NoError(t, err)
	assert.Equal(t, tp, back)
	for _, bad := range []string{"", "a", "a/", "a/x", "@replay", "a/99999999999"} {
		_, err := ParsePartition(bad)
		assert.Error(t, err, bad)
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	for _, more := range []string{"", "x=1 y"} {
		log, rest := Log(Metadata("q+/=", more))
		assert.Equal(t, "q+/=", log)
		assert.Equal(t, more, rest)
	}
	log, more := Log("somebody else's")
	assert.Equal(t, "", log)
	assert.Equal(t, "somebody else's", more)
}
