package kafkasink

import "time"

func init() { unknownWait = 300 * time.Millisecond }

// TopicAge is to be set before a sink is opened.
var TopicAge = &topicAge
