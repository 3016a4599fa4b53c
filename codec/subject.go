package codec

// Subject names the subject under which a schema is registered, from the topic and the full
// name of the record or message.
type Subject func(topic, record string) string

// TopicName is the default: one type for each topic.
func TopicName(topic, _ string) string { return topic + "-value" }

// RecordName lets a topic have values of several types, which have one history whatever the
// topic.
func RecordName(_, record string) string { return record }

// TopicRecordName lets a topic have values of several types, each with a history in
// that topic.
func TopicRecordName(topic, record string) string { return topic + "-" + record }
