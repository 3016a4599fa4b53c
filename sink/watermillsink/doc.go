// Package watermillsink publishes rows by any Watermill Publisher.
//
//	sink := watermillsink.New(watermillsink.Config[Evento]{Publisher: pub, Topic: "eventos"})
//
// # Guarantee
//
// At least once. Messages are published, and so visible, as batches come, before the
// checkpoint; what was published since the last one is published again after a crash or a
// rewind (rule E8). When a call of Publish fails, the messages of that call, and no others, may come
// twice. Each time they have the same UUID (see Config.UUID), so that a consumer that upserts by
// it has each row once. (Watermill's Deduplicator marks a message before it is handled, and loses it if
// that fails, unless all retries are inside: see docs/watermill.md.) For Kafka, kafkasink is exactly
// once from Kafka, and many times faster.
//
// UUIDs hang on offsets. Where a source was reset and its old input replaced by other rows, their
// UUIDs come again for other rows: give the sink another Name then.
//
// # Errors
//
// An error of Publish is retried with backoff, for Publishers do not tell which of their
// errors go away; Config.Permanent may. A row that can't become a message, or is refused by
// Permanent, is rejected alone.
//
// # Order
//
// The rows of a partition are published in order, topic by topic, in calls of up to
// Config.BatchMessages messages. One goroutine publishes: a Publisher that waits for the
// broker at each message sets the pace.
package watermillsink
