// Package kafkasource reads Kafka topics as rows.
//
//	src := kafkasource.New(kafkasource.Config[Evento]{
//		Brokers: []string{"kafka:9092"}, Topics: []string{"eventos"}, Group: "lake",
//	})
//
// # Partitions and positions
//
// Each partition of a topic is a partition of the source, called topic/0 and so on. Where
// it is read from is decided by what sinks and the state folder hold (rules E2, E7-1), and by
// what the group has committed where that is further than the folder knows: for
// sinks that keep no positions of their own. Offsets are committed to the group once they
// are durable in every sink, with the topic's id, and never backwards; a commit that fails
// is logged and covered by the next one, and tried again before partitions are given up. An offset
// that another program has committed counts too: so a group can be taken over from it. Without a
// group nothing is committed.
//
// Only where none of these knows anything, Config.Start counts. It counts once: what was
// found then is remembered like a position. Partitions that are added to a topic later, and topics
// that come to match Pattern, are read from their beginning.
//
// A position carries the topic's id: a topic that was deleted and made again is
// another log, and an error that says how to reset it. (Brokers before 2.8 know no ids;
// there the name stands for it.) It carries the leader's epoch too, so that a log
// which was truncated (an unclean leader election) is found out. An offset beyond the log's end is an error
// (rule A2-1), one that retention has deleted is what Config.OutOfRange says: never a silent jump.
//
// # Groups
//
// Processes of one group share the partitions, by the cooperative-sticky protocol. The membership
// lives from the first Run to Close, across rewinds. When a partition is to go to another process, what was
// read of it is delivered and committed first, within Config.RevokeBudget (rule H3), while the others
// are read on. A process that the group takes for dead rewinds without what it has lost, and goes on
// with what it gets next. Sinks that store positions with their rows refuse what comes late, so a row
// is there once, whatever the group does. Rows of other sinks come again after a process was killed.
//
// Behind the source a stage may have state that only its process can see (the state folder). The
// process then reads nothing until it has all partitions of the topics, and ends with an error when after
// twice the session timeout it has not (rule H1): run one process only, or keep the state where all
// see it.
//
// The group is kept alive while sinks are slow or away, for however long: nothing of the
// pipeline runs on the goroutines that send heartbeats, but the finishing of revoked partitions, which
// is bounded. Partitions that the engine holds back are paused, and keep what was fetched.
//
// # Values
//
// A value is a JSON object whose keys are the row type's columns, decoded as package jsonsource
// describes, the rules of errors and the extra column included; a value may go over several
// lines. By default keys without a column are passed over, and columns without a key are null or reject the
// record; drift.RefuseExtra with drift.RefuseMissing is strict. Plain objects take a fast way by themselves,
// which judges as the careful one does. Config.Raw takes values as they are, Config.Codec decodes Avro or Protobuf with a
// schema registry (packages codec/avrocodec and codec/protocodec), Config.Decode is a function of yours. What can't be
// decoded is rejected alone, with class leat.Decode, and its dead letter has value, key, headers, topic and
// timestamp; leat.Replay makes the row of it again. (Of headers with the same key the letter keeps the last.)
//
// A record without a value, a tombstone, is rejected with rule "null", unless Raw has a []byte or a
// column that can be null for it, or Codec or Decode takes it.
//
// Fields with these tags are filled in, whatever makes the row; they are no columns:
//
//	Topic     string    `leat:"@topic"`
//	Partition int32     `leat:"@partition"` // or a string
//	Offset    int64     `leat:"@offset"`
//	Key       string    `leat:"@key"`       // its bytes; "" for none
//	Time      time.Time `leat:"@timestamp"` // in UTC: the producer's or the broker's, as the topic is set; zero for none
//	Trace     string    `leat:"@header.traceparent"` // of several the last; "" for none
//
// # Transactions
//
// Records of transactions that were aborted are not read, and those of open ones not
// yet (Config.ReadUncommitted). Offsets have gaps where they are, and where compaction has
// taken records away; Drain and Lag know of that. A transaction that its producer has left open
// holds its partitions back until it times out.
//
// # Memory
//
// For each broker about two fetches of 8 MiB (1 MiB for each partition) are in memory, as they came over the
// wire; what they are decompressed to is used again when its rows are written. Opts changes
// the sizes: kgo.FetchMaxBytes, kgo.FetchMaxPartitionBytes. The rest is bounded by the
// pipeline's budget.
//
// # Trouble
//
// A topic that does not exist is an error after 10 s, also one that is deleted while it is read, after a minute or
// so; topics that matched Pattern are let go of then. Topics are never created by reading. Brokers that don't answer
// for 10 s at the start make the engine rewind and try again. Brokers that go away later are waited for;
// the client logs it. A name, a password or a certificate that is not taken, TLS on one side only, and missing ACLs
// end Run, with an error that says what to mend.
package kafkasource
