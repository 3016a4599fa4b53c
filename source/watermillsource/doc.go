// Package watermillsource reads the messages of any Watermill Subscriber as rows.
//
//	src := watermillsource.New(watermillsource.Config[Evento]{Subscriber: sub, Topic: "eventos"})
//
// # Acknowledgements
//
// A message is acknowledged when its checkpoint is complete: when every sink, and the dead
// letters, have what became of it durably (rule A3). What the pipeline stops without is
// nacked, and the Pub/Sub hands it out again. While the pipeline rewinds (rule E8), messages
// stay with the source, and are processed again without being handed out again; one whose
// context has ended meanwhile is given back.
//
// Many Subscribers hand out one message at a time (GoChannel with
// BlockPublishUntilSubscriberAck), or one for each partition (watermill-kafka), and wait for its
// acknowledgement. So the source has a checkpoint made as soon as nothing more can be had,
// and throughput is the number of messages in flight by the time of a checkpoint. For a Kafka topic, use
// kafkasource, which has no such limit; see docs/watermill.md for figures.
//
// A sink that collects rows for long (Parquet files) would have such a Subscriber wait as
// long. Check refuses it, unless leat.Config.ForceCheckpoints makes it commit, a file, at each
// checkpoint (rule E9).
//
// # Guarantee
//
// At least once: no message is lost, and some come twice after a crash, and after a nack. A
// message that comes again is a new one to leat, with another offset (leat.ReplayNone, rule
// A2-2). So sinks that are exactly once give at least once, and stages with state are refused.
// To have each message once, upsert by a key: of the row, or the message's UUID.
//
// # Rows
//
// The payload is one JSON object, or Config.Decode says what it is. Where a message came
// from can be asked for by fields with these tags; the others that a row type may have
// stay zero.
//
//	@topic                           Config.Topic
//	@header.NAME                     the metadata's value of that name; "" if there is none
//	@header._watermill_message_uuid  the message's UUID
//	@key, @timestamp                 what Config.Origin gives
//	@offset                          a number that grows from message to message, and from run to run
//
// A message that can't be decoded is rejected with class leat.Decode. Its dead letter has
// the payload, the topic, and metadata and UUID as headers; leat.Replay makes the message again of
// that.
//
// # One partition
//
// All messages are one partition, whatever the Pub/Sub's own are. Their order is that in which the
// Subscriber handed them out.
//
// # The end
//
// The source ends its subscription when the pipeline ends; the Subscriber is closed by who
// made it, afterwards. If the Subscriber closes the channel by itself, that is the end of the
// input: what has come is drained, a warning is logged, and Run returns nil.
package watermillsource
