package kafkasink

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
)

// LettersConfig says which topic dead letters go to, or are read from. All but Opts is
// needed.
type LettersConfig struct {
	Brokers []string // where the cluster is found: HOST:PORT
	Topic   string
	Opts    []kgo.Opt // added to the client's own: TLS, SASL and so on
}

// DeadLetters is a dead-letter log in a topic (rule B4). A letter is a record with the
// original bytes as its value, the original key and headers, and the reason in headers of
// its own:
//
//	leat.id         the letter's id; who reads skips those it has seen (rule B3-2)
//	leat.class      Decode, Contract, …
//	leat.error      in words, 1,000 bytes at most
//	leat.node       which source, stage or sink refused the row
//	leat.pipeline   of which pipeline
//	leat.partition  and where the row came from
//	leat.offset
//	leat.letter     all else, as JSON: what leat.Replay needs
//
// After a crash a letter may be there twice, with the same id. ReadDeadLetters reads the
// topic. Where the rows go to Kafka in a transaction, see Transaction.DeadLetters.
func DeadLetters(c LettersConfig) leat.DeadLetterLog { return &letters{config: c} }

// DeadLetters is a dead-letter log in a topic, as the function of that name, of which the
// letters of rows that go into the transaction are a part of it: who reads committed
// records sees each once. Letters of other sinks and sources are written by themselves.
func (tx *Transaction) DeadLetters(topic string) leat.DeadLetterLog {
	return &joinedLetters{letters{tx: tx, config: LettersConfig{Brokers: tx.config.Brokers, Topic: topic, Opts: tx.config.Opts}}}
}

type joinedLetters struct{ letters }

// JoinedWith implements leat.Joined.
func (l *joinedLetters) JoinedWith() any { return l.tx }

// letters is the log. All methods are called one at a time.
type letters struct {
	config LettersConfig
	tx     *Transaction // nil: all letters are written by themselves
	env    leat.Env

	opened  atomic.Bool
	p       *producer    // of those; nil: none has come yet
	pending []kgo.Record // since the last Sync
}

func (l *letters) Open(ctx context.Context, env leat.Env) (err error) {
	// Another pipeline's Close would forget what waits for its acknowledgement (rule B3).
	if !l.opened.CompareAndSwap(false, true) {
		return fmt.Errorf("kafkasink: dead letters, topic %s: a pipeline has them open: make a log for each", l.config.Topic)
	}
	defer func() {
		if err != nil { // it may be tried again, without Close
			l.opened.Store(false)
		}
	}()
	l.env = env
	if err := checkTopic(l.config.Topic); err != nil {
		return fmt.Errorf("kafkasink: dead letters: %w", err)
	}
	if err := checkClient("kafkasink: dead letters", l.config.Brokers, l.config.Opts); err != nil {
		return err
	}
	// That the topic is there is better known now than at the first letter. The client is made
	// then: few pipelines need it.
	err = l.connect(ctx)
	l.disconnect()
	return err
}

func (l *letters) connect(ctx context.Context) error {
	l.disconnect()
	p, err := connect(l.env.Logger, l.config.Brokers, l.config.Opts, false)
	if err != nil {
		return err
	}
	if err := p.mustHave(ctx, l.config.Topic); err != nil {
		p.close()
		return fmt.Errorf("dead letters: %w", err)
	}
	l.p = p
	return nil
}

func (l *letters) disconnect() {
	if l.p != nil {
		l.p.close()
		l.p = nil
	}
}

func (l *letters) Append(ctx context.Context, all []leat.DeadLetter) error {
	var own, alone []leat.DeadLetter
	for _, d := range all {
		if l.tx != nil && l.tx.covers(&d) {
			own = append(own, d)
		} else {
			alone = append(alone, d)
		}
	}
	if len(own) > 0 {
		if err := l.tx.appendLetters(ctx, l.config.Topic, own); err != nil {
			return err
		}
	}
	if len(alone) == 0 {
		return nil
	}
	if err := l.ensure(ctx); err != nil {
		return err
	}
	records, err := l.records(ctx, alone)
	if err != nil {
		return err
	}
	l.pending = append(l.pending, records...)
	l.p.send(ctx, l.p.letterFlight(records))
	return nil
}

// ensure makes the client. What an earlier one has lost is written again; that some of it
// is there twice then does no harm (rule B3-2).
func (l *letters) ensure(ctx context.Context) error {
	if l.p != nil {
		return nil
	}
	if err := l.connect(ctx); err != nil {
		return err
	}
	l.p.send(ctx, l.p.letterFlight(l.pending))
	return nil
}

// records makes the letters' records, which fit into the topic.
func (l *letters) records(ctx context.Context, all []leat.DeadLetter) ([]kgo.Record, error) {
	t := l.p.topics.get(l.config.Topic, time.Now())
	if t == nil {
		if err := l.p.mustHave(ctx, l.config.Topic); err != nil {
			return nil, err
		}
		t = l.p.topics.known[l.config.Topic]
	}
	return letterRecords(all, t)
}

func letterRecords(all []leat.DeadLetter, t *topic) ([]kgo.Record, error) {
	out := make([]kgo.Record, len(all))
	for i := range all {
		r, err := letterRecord(&all[i], t)
		if err != nil {
			return nil, err
		}
		out[i] = r
	}
	return out, nil
}

func (l *letters) Sync(ctx context.Context) error {
	if len(l.pending) == 0 {
		return nil
	}
	if err := l.ensure(ctx); err != nil {
		return err
	}
	if err := l.p.flush(ctx); err != nil {
		return err
	}
	what, err := l.p.failure()
	if err != nil && what == refused {
		// Perhaps for the size of their batch alone: the topic's limit is not always known.
		if err := l.connect(ctx); err != nil {
			return err
		}
		_, what, err = l.p.sendSingly(ctx, l.p.letterFlight(l.pending))
	}
	if err == nil {
		l.pending = l.pending[:0]
		return nil
	}
	l.disconnect()
	if err = fmt.Errorf("dead letters: %w", err); what != gone {
		return err
	}
	return leat.Transient(err)
}

func (l *letters) Close() error {
	l.disconnect()
	l.pending = nil
	l.opened.Store(false)
	return nil
}

// covers tells whether the letter's row is one of the transaction's.
func (tx *Transaction) covers(d *leat.DeadLetter) bool {
	if d.Source != tx.config.Source.Node() {
		return false
	}
	tx.namesMu.Lock()
	defer tx.namesMu.Unlock()
	return len(tx.names) > 0 && (d.Sink == "" || tx.names[d.Sink])
}

// appendLetters writes letters in the transaction.
func (tx *Transaction) appendLetters(ctx context.Context, name string, all []leat.DeadLetter) error {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	l, err := tx.alive()
	if err != nil {
		return err
	}
	t := l.p.topics.get(name, time.Now())
	if t == nil {
		if err := l.p.mustHave(ctx, name); err != nil {
			return err
		}
		t = l.p.topics.known[name]
	}
	records, err := letterRecords(all, t)
	if err != nil {
		return err
	}
	if err := l.begin(ctx); err != nil {
		return err
	}
	f := l.p.letterFlight(records)
	tx.care.wrote(len(records))
	if !tx.care.on {
		l.p.send(ctx, f)
		return l.failed()
	}
	_, what, err := l.p.sendSingly(ctx, f) // a batch of letters may be refused for its size
	switch {
	case err == nil || ctx.Err() != nil:
		return err
	case what == refused: // rule B3: it is not dead-lettered itself
		l.dead = tx.care.hopeless(fmt.Errorf("the broker refuses a dead letter: %w", err))
	default:
		l.dead = tx.care.failed(what, err)
	}
	return l.dead
}

// letterFlight is one whose records are kept, and which is not used again.
func (p *producer) letterFlight(records []kgo.Record) *flight {
	f := &flight{p: p, records: slices.Clone(records)} // kgo notes in them what must not be there when they are sent again
	for i := range f.records {
		f.records[i].Context = p.ctx
	}
	f.failed.Store(true)
	f.promise = f.settle
	return f
}

const (
	letterPrefix = "leat."
	letterHeader = "leat.letter"
)

// letterRecord makes the record of a letter. What is not needed for a replay is left out
// where the topic does not take it otherwise.
func letterRecord(d *leat.DeadLetter, t *topic) (kgo.Record, error) {
	r := kgo.Record{Topic: t.name, Key: d.Key, Value: d.Raw, Timestamp: d.Time}
	rest := *d
	rest.Key, rest.Raw, rest.Headers = nil, nil, nil
	for _, name := range slices.Sorted(maps.Keys(d.Headers)) {
		if strings.HasPrefix(name, letterPrefix) { // of a letter that was read as a row
			if rest.Headers == nil {
				rest.Headers = map[string]string{}
			}
			rest.Headers[name] = d.Headers[name]
			continue
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: name, Value: []byte(d.Headers[name])})
	}
	for _, h := range [][2]string{
		{"id", d.ID}, {"class", string(d.Class)}, {"error", short(d.Error, 1000)}, {"node", d.Node},
		{"pipeline", d.Pipeline}, {"partition", d.Partition}, {"offset", strconv.FormatInt(d.Offset, 10)},
	} {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: letterPrefix + h[0], Value: []byte(h[1])})
	}
	n := len(r.Headers)
	for _, lighten := range []func(){
		func() {},
		func() { rest.Row = nil },
		func() { rest.Stack = "" },
		func() { rest.Error = short(rest.Error, 1000) },
	} {
		lighten()
		js, err := json.Marshal(&rest)
		if err != nil {
			return r, fmt.Errorf("dead letter %s: %w", d.ID, err)
		}
		r.Headers = append(r.Headers[:n], kgo.RecordHeader{Key: letterHeader, Value: js})
		if recordSize(&r) <= t.limit {
			return r, nil
		}
	}
	return r, fmt.Errorf("the dead letter of %s, offset %d, has %d bytes, and %s; raise that: letters are somewhat larger than the records they are of",
		d.Partition, d.Offset, recordSize(&r), t.takes())
}

// short cuts text at a character.
func short(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}

// letterOf undoes letterRecord.
func letterOf(r *kgo.Record) (d leat.DeadLetter, err error) {
	where := func() string { return fmt.Sprintf("topic %s, partition %d, offset %d", r.Topic, r.Partition, r.Offset) }
	found := false
	headers := map[string]string{}
	for _, h := range r.Headers {
		switch {
		case h.Key == letterHeader:
			if err := json.Unmarshal(h.Value, &d); err != nil {
				return d, fmt.Errorf("%s: its header %s is damaged: %w", where(), letterHeader, err)
			}
			found = true
		case !strings.HasPrefix(h.Key, letterPrefix):
			headers[h.Key] = string(h.Value)
		}
	}
	if !found {
		return d, fmt.Errorf("%s, is no dead letter: it has no header %s", where(), letterHeader)
	}
	maps.Copy(headers, d.Headers)
	if d.Headers = headers; len(headers) == 0 {
		d.Headers = nil
	}
	d.Key, d.Raw = r.Key, r.Value
	return d, nil
}
