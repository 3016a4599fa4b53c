// Package kafkasink writes rows to topics of Kafka.
//
//	kafkasink.New(kafkasink.Config[Venta]{
//		Brokers: []string{"localhost:9092"}, Topic: "ventas",
//		Key: func(v *Venta) []byte { return []byte(v.Cliente) },
//	})
//
// # Records
//
// A row is one record. Its value is the row as JSON, or what Encode or a codec makes of
// it. Key, headers and timestamp come from functions of the Config, else from the row's
// own fields, which are those that kafkasource fills: so they survive a hop from topic
// to topic (rule J2).
//
//	type Pedido struct {
//		ID    int64     `leat:"id"`
//		Clave string    `leat:"@key"`
//		Hora  time.Time `leat:"@timestamp"`
//		Traza string    `leat:"@header.traza"` // no header when it is empty
//	}
//
// # Guarantee
//
// The producer is idempotent and waits for all replicas in sync (rule J4). Records are
// visible as soon as they are written, and a checkpoint waits until all are. After a
// crash some are there twice: at least once. With Unique, who reads the topic by its
// keys does not mind.
//
// From a kafkasource of a consumer group to the same cluster there is exactly once:
//
//	tx := kafkasink.NewTransaction(kafkasink.TransactionConfig{Source: src, Brokers: brokers})
//	p := leat.New("pedidos", leat.Config{DeadLetters: tx.DeadLetters("pedidos-malos")})
//	leat.To(good, kafkasink.New(kafkasink.Config[Pedido]{Transaction: tx, Topic: "pedidos-buenos"}))
//
// All that is written between two checkpoints is one transaction, in which the source's
// positions are committed too, to its group (rule J3). Consumers that read committed
// records only (isolation.level=read_committed) see each row once, at the next
// checkpoint: Config.CheckpointEvery is what they wait for, so make it 100 ms to 1 s.
//
// A process that has lost its partitions to another one can't commit: the group refuses
// its generation (KIP-447). What a killed process has left open is aborted when it starts
// again with the same state folder, else by the broker at TransactionConfig.Timeout.
//
// Brokers have to be of version 2.5 or later. With ACLs the transaction needs Write on
// the topics and on the transactional id, which begins with TransactionConfig.ID; Read on
// the group and the source's topics; and Describe on all of them. DescribeConfigs on the
// topics tells how large a record may be; without it the default of Kafka is assumed.
//
// # What is rejected
//
// A record that is larger than its topic's max.message.bytes, one whose row can't be
// encoded, and one that goes to a topic that does not exist (with TopicOf) are rejected
// alone. What only the broker can tell (a timestamp beyond message.timestamp.after.max.ms, no
// key in a compacted topic) is heard of late: the pipeline goes back to the last
// checkpoint and comes again with more care, which names the row.
//
// A broker that does not answer is waited for. Missing permissions, and a name, a password or
// a certificate that is not taken, end the pipeline. Neither costs a row.
//
// # Letters
//
// DeadLetters and Transaction.DeadLetters keep dead letters in a topic, and
// ReadDeadLetters reads them for leat.Replay. Letters are replayed at least once: a
// pipeline that is built for leat.Replay has sinks without a Transaction, since its
// source is not a member of the group meanwhile.
package kafkasink
