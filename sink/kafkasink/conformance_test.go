package kafkasink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/sink/kafkasink"
)

type conRow struct {
	ID   int64  `json:"id"`
	Note string `json:"note"`
	Word word   `json:"word"`
}

// word may refuse to be written.
type word int

func (w word) MarshalText() ([]byte, error) {
	if w < 0 {
		return nil, errors.New("a bad word")
	}
	return strconv.AppendInt(nil, int64(w), 10), nil
}

func (w *word) UnmarshalText(text []byte) error {
	n, err := strconv.Atoi(string(text))
	*w = word(n)
	return err
}

// The contract of leat.Sink.
func TestConformance(t *testing.T) {
	_, brokers := fake(t)
	adm := kadm.NewClient(client(t, brokers))
	topicOf := func(dir string) string {
		return "c" + strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
				return r
			}
			return '-'
		}, filepath.ToSlash(dir)[max(0, len(dir)-200):])
	}
	for name, config := range map[string]kafkasink.Config[conRow]{
		"at least once": {},
		"by key":        {Unique: true, Key: func(r *conRow) []byte { return strconv.AppendInt(nil, r.ID, 10) }},
	} {
		t.Run(name, func(t *testing.T) {
			leattest.TestSink(t, leattest.SinkHarness[conRow]{
				New: func(t *testing.T, dir string) leat.Sink[conRow] {
					c := config
					c.Name, c.Brokers, c.Topic = "kafka", brokers, topicOf(dir)
					_, err := adm.CreateTopic(t.Context(), 1, 1, nil, c.Topic)
					if err != nil && !strings.Contains(err.Error(), "TOPIC_ALREADY_EXISTS") {
						require.NoError(t, err)
					}
					return kafkasink.New(c)
				},
				Row: func(n int) conRow { return conRow{int64(n), fmt.Sprintf("note \"%d\"\n\u2028", n), word(n)} },
				Bad: func(n int) conRow { return conRow{int64(n), "", -1} },
				ReadBack: func(t *testing.T, dir string) (rows []conRow) {
					at := map[string]int{}
					for _, rec := range readAll(t, brokers, topicOf(dir)) {
						var r conRow
						require.NoError(t, json.Unmarshal(rec.Value, &r))
						if i, seen := at[string(rec.Key)]; seen && config.Unique {
							rows[i] = r
							continue
						}
						at[string(rec.Key)] = len(rows)
						rows = append(rows, r)
					}
					return rows
				},
				RealTime: true,
				Trials:   20,
			})
		})
	}
}
