package kafkasink

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/kafka"
)

// Source is a *kafkasource.Source that reads as a member of a consumer group.
type Source interface{ kafka.Group }

// TransactionConfig says what is committed together. Source and Brokers are needed.
type TransactionConfig struct {
	// Source is the one whose positions are committed with the rows, in its group. All
	// rows and letters of the transaction must come from it.
	Source Source

	// Brokers are where the cluster is found: HOST:PORT. It must be that of the source.
	Brokers []string

	// ID begins the transactional id; the rest is made up, one for each state folder,
	// and kept there, so that the next run ends at once what a killed one has left open.
	// Who has only prefixed ACLs on transactional ids sets it. Defaults to
	// PIPELINE-SOURCE.
	ID string

	// Timeout is when the broker aborts a transaction that is still open; until then,
	// what a killed process has left open may keep readers of committed records
	// waiting. Checkpoints come at least three times as often. Defaults to 60 s.
	Timeout time.Duration

	// Opts are added to the client's own: TLS, SASL, compression and so on.
	Opts []kgo.Opt
}

// Transaction makes several sinks, and the dead letters, one: all they write between two
// checkpoints is one transaction of Kafka, in which the source's positions are committed
// too (rule J3). Readers of committed records see all of it or nothing, each row once.
//
// One Transaction belongs to one pipeline, which has one for each source.
type Transaction struct {
	config TransactionConfig

	namesMu sync.Mutex // letters of other sinks come from other goroutines
	names   map[string]bool
	chosen  bool // a sink chooses partitions

	mu     sync.Mutex
	opened int
	life   *life
	care   care
}

// NewTransaction only remembers c: the sinks' Validate tells what is wrong with it.
func NewTransaction(c TransactionConfig) *Transaction {
	return &Transaction{config: c, names: map[string]bool{}}
}

// join makes a sink one of the transaction's.
func (tx *Transaction) join(name string, choosesPartitions bool) {
	tx.namesMu.Lock()
	defer tx.namesMu.Unlock()
	tx.names[name] = true
	tx.chosen = tx.chosen || choosesPartitions
}

func (tx *Transaction) timeout() time.Duration {
	if tx.config.Timeout == 0 {
		return time.Minute
	}
	return tx.config.Timeout
}

// validate reports all faults of the configuration, joined.
func (tx *Transaction) validate() error {
	c := tx.config
	var faults []error
	if c.Source == nil {
		faults = append(faults, errors.New("kafkasink: Transaction: Source is missing"))
	}
	if g, ok := c.Source.(interface{ GroupID() string }); ok && g.GroupID() == "" {
		faults = append(faults, fmt.Errorf("kafkasink: Transaction: source %s reads without a consumer group, and a transaction keeps the positions in one: set its Group", c.Source.Node()))
	}
	if c.Timeout < 0 || c.Timeout > 0 && c.Timeout < time.Second {
		faults = append(faults, fmt.Errorf("kafkasink: Transaction: Timeout %v: it must be 1s or more", c.Timeout))
	}
	faults = append(faults, checkClient("kafkasink: Transaction", c.Brokers, c.Opts))
	return errors.Join(faults...)
}

// life is a transaction's producer from the sinks' Open to their Close.
type life struct {
	tx  *Transaction
	env leat.Env
	id  string // the transactional id
	p   *producer
	v2  bool // see kafka.Txn

	begun  bool // a transaction is open
	group  string
	held   map[kafka.TopicPartition]kafka.Offset // as committed
	tokens map[kafka.TopicPartition]uint64       // since Restore
	votes  map[any]leat.Checkpoint               // of the sinks that were asked to commit
	dead   error

	changed bool // the next life has another id
}

// open begins a life with the first of the sinks.
func (tx *Transaction) open(ctx context.Context, env leat.Env) (*life, error) {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.opened == 0 {
		if err := tx.care.begin(); err != nil {
			return nil, err
		}
		l := &life{
			tx: tx, env: env, held: map[kafka.TopicPartition]kafka.Offset{},
			tokens: map[kafka.TopicPartition]uint64{}, votes: map[any]leat.Checkpoint{},
		}
		tx.config.Source.Transacted()
		if err := l.connect(ctx); err != nil {
			return nil, err
		}
		tx.life = l
	} else if l := tx.life; l == nil {
		return nil, errClosed // its other sinks are being closed
	} else if l.env.Pipeline != env.Pipeline || l.env.StateDir != env.StateDir {
		// Each would wait for the other's sinks to commit, and take a checkpoint for complete before.
		return nil, fmt.Errorf("kafkasink: pipeline %s (state in %s) has the Transaction of pipeline %s (state in %s), and one belongs to one pipeline: make source, Transaction and sinks anew for each (within the function that leat.Replicas is given)",
			env.Pipeline, env.StateDir, l.env.Pipeline, l.env.StateDir)
	}
	tx.opened++
	return tx.life, nil
}

// connect makes the client. That its transactional id gets a new epoch ends what an
// earlier life may have left open.
func (l *life) connect(ctx context.Context) (err error) {
	if l.id, err = l.tx.transactionalID(l.env); err != nil {
		return err
	}
	c := &l.tx.config
	p, err := connect(l.env.Logger, c.Brokers, c.Opts, l.tx.chosen,
		kgo.TransactionalID(l.id), kgo.TransactionTimeout(l.tx.timeout()))
	if err != nil {
		return err
	}
	v2, err := kafka.TransactionsV2(ctx, p.cl)
	if err == nil {
		_, _, err = p.cl.ProducerID(ctx)
	}
	if err != nil {
		defer p.close()
		l.mind(err)
		if errors.Is(err, kerr.TransactionalIDAuthorizationFailed) {
			err = fmt.Errorf("not allowed with these credentials, which takes Write on transactional ids that begin with %s: %w", l.tx.prefix(l.env), err)
		}
		if err = fmt.Errorf("transactional id %s: %w", l.id, err); fenced(err) {
			return leat.Transient(err) // the next attempt has another one
		}
		return asTransient(ctx, p.cl, err)
	}
	l.p, l.v2 = p, v2 && knows(p.cl)
	return nil
}

// mind lets go of the transactional id when it may be another producer's: of a copy of
// the state folder. Otherwise the two would fence each other for ever. A transaction that
// timed out looks the same to us, and does no worse with a new id.
func (l *life) mind(err error) {
	if fenced(err) && !l.changed {
		l.changed = true
		l.env.Logger.Warn("the producer was fenced: its transaction timed out, or another process has the transactional id; taking a new one", "id", l.id, "timeout", l.tx.timeout())
		forgetID(l.env, l.tx.prefix(l.env))
	}
}

func fenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// lost ends the life for the engine (rule E8).
func (l *life) lost(why error) error {
	l.mind(why)
	l.dead = fmt.Errorf("%w: %w", leat.ErrAborted, why)
	return l.dead
}

// failed is leat.ErrAborted once the transaction can't be committed any more.
func (l *life) failed() error {
	if l.dead != nil {
		return l.dead
	}
	what, err := l.p.failure()
	if err == nil {
		return nil
	}
	l.mind(err)
	l.dead = l.tx.care.failed(what, err)
	return l.dead
}

// begin opens a transaction, if none is open: at the first record, so that an idle
// pipeline has none.
func (l *life) begin(ctx context.Context) error {
	if l.begun {
		return nil
	}
	// kgo.BeginTransaction would load a lost producer id without a context.
	if _, _, err := l.p.cl.ProducerID(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return l.lost(fmt.Errorf("beginning a transaction: %w", err))
	}
	if err := l.p.cl.BeginTransaction(); err != nil {
		return l.lost(fmt.Errorf("beginning a transaction: %w", err))
	}
	l.begun = true
	return nil
}

// endTime is how long each step of ending a transaction may take before the sink goes on without
// knowing its end; all of them together, once the pipeline ends.
var endTime = 15 * time.Second

// abort ends an open transaction, so that nobody waits for it. Its time is bounded, and
// not by a context that has ended already.
func (l *life) abort() error {
	if !l.begun {
		return nil
	}
	l.begun = false
	ctx, cancel := context.WithTimeout(context.Background(), endTime)
	defer cancel()
	err := l.p.cl.AbortBufferedRecords(ctx)
	if err == nil {
		err = l.p.cl.EndTransaction(ctx, kgo.TryAbort)
	}
	return err
}

// leave undoes open for a sink that could not go on.
func (tx *Transaction) leave() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	if tx.opened--; tx.opened == 0 {
		tx.life.p.close()
		tx.life = nil
	}
}

// close ends the life with the first of the sinks that closes: what is not committed by
// then is discarded.
func (tx *Transaction) close() {
	tx.mu.Lock()
	defer tx.mu.Unlock()
	tx.opened--
	l := tx.life
	if l == nil {
		return
	}
	tx.life = nil
	l.dead = errClosed
	switch err := l.abort(); {
	case fenced(err): // whoever did it has aborted it
		l.mind(err)
	case err != nil:
		l.env.Logger.Warn("a transaction could not be aborted; readers of committed records may wait for it until its timeout, or until this pipeline starts again",
			"id", l.id, "timeout", tx.timeout(), "error", err)
	}
	l.p.close()
}

// restore reads where the group stands.
func (l *life) restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	src := l.tx.config.Source
	if l.group == "" {
		m, err := src.Member(nil)
		if err != nil {
			return nil, err
		}
		if err := sameCluster(ctx, src.Client(), l.p.cl); err != nil {
			return nil, err
		}
		l.group = m.Group
	}
	names := map[kafka.TopicPartition]string{}
	for _, name := range partitions {
		tp, err := l.parse(name)
		if err != nil {
			return nil, err
		}
		token := src.Token(tp)
		if token == 0 {
			// The source tells the engine itself what it has lost; leat.Fenced would keep
			// the partition away when it comes back.
			return nil, fmt.Errorf("%w: the source has lost partition %s meanwhile", leat.ErrAborted, name)
		}
		names[tp] = name
		l.tokens[tp] = token
		delete(l.held, tp)
	}
	start, told := time.Now(), false
	at, err := kafka.FetchOffsets(ctx, l.p.cl, l.group, slices.Collect(maps.Keys(names)), func() {
		if !told && time.Since(start) > 5*time.Second {
			told = true
			l.env.Logger.Warn("waiting for the transaction of a process that had the partitions before; the broker ends it at its timeout", "group", l.group)
		}
	})
	if err != nil {
		return nil, asTransient(ctx, l.p.cl, err)
	}
	out := map[string]leat.Position{}
	for tp, o := range at {
		if o.Log == "" { // committed by another program
			if o.Log, err = topicLog(ctx, l.p.cl, tp.Topic); err != nil {
				return nil, err
			}
		}
		l.held[tp] = o
		out[names[tp]] = leat.Position{Next: o.Next, Resume: o.Resume, Log: o.Log}
	}
	return out, nil
}

// parse finds the partition of a qualified name.
func (l *life) parse(name string) (kafka.TopicPartition, error) {
	src := l.tx.config.Source.Node()
	local, ok := strings.CutPrefix(name, src+"/")
	switch {
	case strings.HasPrefix(name, "@"):
		return kafka.TopicPartition{}, fmt.Errorf("kafkasink: a transaction can't keep the position of %s yet, which a stage makes of several partitions", name)
	case !ok:
		return kafka.TopicPartition{}, fmt.Errorf("kafkasink: partition %s is not of source %s, and a transaction commits the positions of one group: write its rows by a sink without the transaction, or in a pipeline of their own", name, src)
	case local == leat.ReplayPartition:
		return kafka.TopicPartition{}, fmt.Errorf("kafkasink: letters are replayed without a group, in which a transaction keeps positions: build the pipeline for leat.Replay with sinks without Transaction (at least once)")
	}
	return kafka.ParsePartition(local)
}

// joined is a sink in a transaction.
type joined[T any] struct {
	*sink[T]
	tx   *Transaction
	life *life // nil: closed
}

// JoinedWith implements leat.Joined.
func (j *joined[T]) JoinedWith() any { return j.tx }

// BoundTo implements leat.Bound: the positions that are committed are those of one group.
func (j *joined[T]) BoundTo() any { return j.tx.config.Source }

// Guarantee is leat.ExactlyOnce.
func (j *joined[T]) Guarantee() leat.Guarantee { return leat.ExactlyOnce }

// CommitWithin implements leat.Prompt (rule J3).
func (j *joined[T]) CommitWithin() time.Duration { return j.tx.timeout() / 3 }

func (j *joined[T]) Validate() error { return errors.Join(j.sink.Validate(), j.tx.validate()) }

func (j *joined[T]) Open(ctx context.Context, env leat.Env) error {
	if err := j.Validate(); err != nil {
		return err
	}
	l, err := j.tx.open(ctx, env)
	if err != nil {
		return err
	}
	if err := j.sink.prepare(ctx, l.p); err != nil {
		j.tx.leave()
		return err
	}
	j.life = l
	return nil
}

func (j *joined[T]) Restore(ctx context.Context, partitions []string) (map[string]leat.Position, error) {
	return j.life.restore(ctx, partitions)
}

func (j *joined[T]) Write(ctx context.Context, b *leat.Batch[T]) error {
	l, c := j.life, &j.tx.care
	if err := l.failed(); err != nil {
		return err
	}
	f, err := j.sink.encode(ctx, l.p, c, b)
	if err != nil {
		return err
	}
	if len(f.records) == 0 {
		return nil
	}
	if err := l.begin(ctx); err != nil {
		return err
	}
	c.wrote(len(f.records))
	if !c.on {
		l.p.send(ctx, f)
		return l.failed()
	}
	if c.single {
		at, what, err := l.p.sendSingly(ctx, f)
		if err == nil || ctx.Err() != nil {
			return err
		}
		if what == refused { // alone: it is at fault
			c.tried = 0
			return errors.Join(l.lost(errRefused), &leat.RowErrors{Rows: []leat.RowError{f.refused(at, err)}})
		}
		l.dead = c.failed(what, err)
		return l.dead
	}
	what, err := l.p.sendAndWait(ctx, f)
	if err == nil || ctx.Err() != nil {
		return err
	}
	if what != refused {
		l.dead = c.failed(what, err)
		return l.dead
	}
	rows, err := l.probe(ctx, f)
	if err != nil {
		return l.lost(err)
	}
	c.single, c.tried = len(rows) == 0, 0
	// Naming them has cost the transaction (rule B5).
	return errors.Join(l.lost(errRefused), &leat.RowErrors{Rows: rows})
}

var errRefused = errors.New("the broker refused records")

// probe finds the records of f that the broker does not take. What it sends is aborted.
func (l *life) probe(ctx context.Context, f *flight) ([]leat.RowError, error) {
	defer func() {
		if err := l.abort(); err != nil {
			l.env.Logger.Debug("aborting the trial of records", "error", err)
		}
	}()
	return probe(ctx, f, func() (*producer, error) {
		// A refused record leaves a gap in the producer's sequence, so that nothing else
		// gets through in the same transaction.
		if err := l.abort(); err == nil {
			if err = l.begin(ctx); err == nil {
				return l.p, nil
			}
		}
		l.p.close()
		l.begun, l.dead = false, nil
		if err := l.connect(ctx); err != nil {
			return nil, err
		}
		return l.p, l.begin(ctx)
	})
}

func (j *joined[T]) Commit(ctx context.Context, cp leat.Checkpoint) (bool, error) {
	if err := j.tx.commit(ctx, j, cp); err != nil {
		return false, err
	}
	return true, nil
}

func (j *joined[T]) Close() error {
	if j.life != nil {
		j.life = nil
		j.tx.close()
	}
	return nil
}

var errClosed = fmt.Errorf("%w: the transaction is closed", leat.ErrAborted)

// alive is the present life, as long as what was written in it can still be committed. tx.mu is held.
func (tx *Transaction) alive() (*life, error) {
	if tx.life == nil {
		return nil, errClosed
	}
	return tx.life, tx.life.failed()
}
