package engine

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/leatgo/leat/internal/store"
)

// What is behind a complete checkpoint is not kept: nothing comes again from there.
func TestPoisonForgets(t *testing.T) {
	a, b := poisonKey{"sink", "s/0"}, poisonKey{"sink", "s/1"}
	p := poison{
		rows: map[poisonKey][]poisoned{a: {{offset: 3}, {offset: 7}, {offset: 7, ordinal: 1}, {offset: 12}}, b: {{offset: 5}}},
		slow: map[poisonKey]int64{a: 8, b: 6},
	}
	p.forget(map[string]store.Position{"s/0": {Next: 8}})
	assert.Equal(t, []poisoned{{offset: 12}}, p.rows[a])
	assert.Len(t, p.rows[b], 1, "another partition")
	assert.Equal(t, map[poisonKey]int64{b: 6}, p.slow)
	p.forget(map[string]store.Position{"s/0": {Next: 13}, "s/1": {Next: 5}})
	assert.Equal(t, map[poisonKey][]poisoned{b: {{offset: 5}}}, p.rows)
	assert.Equal(t, map[poisonKey]int64{b: 6}, p.slow)
}
