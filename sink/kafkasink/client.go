package kafkasink

import (
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What waits for its acknowledgement, at most: Write blocks beyond it (rule A5).
const (
	maxBufferedBytes   = 32 << 20
	maxBufferedRecords = 1 << 15
)

// defaultMaxMessage is the limit of a topic whose configuration we may not read: kgo's
// own, a little below a broker's default.
const defaultMaxMessage = 1_000_012

// clientOpts are the options of a producer: ours, then the user's, then what must be.
func clientOpts(brokers []string, opts []kgo.Opt, must ...kgo.Opt) []kgo.Opt {
	all := []kgo.Opt{
		kgo.SeedBrokers(brokers...),
		kgo.ClientID("leat"),
		kgo.MetadataMinAge(500 * time.Millisecond), // how soon a new leader is looked for
		kgo.ProducerLinger(0),                      // a lone row goes at once (rule A6); a busy sink fills batches while requests are under way
		kgo.MaxBufferedBytes(maxBufferedBytes),
		kgo.MaxBufferedRecords(maxBufferedRecords),
	}
	all = append(all, opts...)
	// Rule J4. Records are never given up: what is uncertain would be lost or doubled.
	all = append(all, kgo.RequiredAcks(kgo.AllISRAcks()))
	return append(all, must...)
}
