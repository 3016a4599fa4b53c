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
