package kafkasink

import (
	"time"

	"github.com/leatgo/leat"
)

func init() { unknownWait = 300 * time.Millisecond }

// TopicAge is to be set before a sink is opened.
var TopicAge = &topicAge

// KnownTopics is how many topics an open sink remembers.
func KnownTopics[T any](s leat.Sink[T]) int { return len(s.(*sink[T]).p.topics.known) }

var ReadPatience = &readPatience

// EndTime is to be set while no transaction is being ended.
var EndTime = &endTime
