//go:build unix

package kafkatorture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/lake"
	"github.com/leatgo/leat/sink/kafkasink"
	"github.com/leatgo/leat/sink/parquetsink"
	"github.com/leatgo/leat/sink/sqlitesink"
	"github.com/leatgo/leat/source/kafkasource"
	"github.com/leatgo/leat/state"
)

// fila is a row. N tells its record from all others; Evento is there again in some later record.
type fila struct {
	N      int64  `leat:"n" json:"n" parquet:"n"`
	Evento int64  `leat:"evento" json:"evento" parquet:"evento"`
	Texto  string `leat:"texto" json:"texto" parquet:"texto"`
}

// check: the text says the number again.
func (r fila) check() error {
	if !strings.HasPrefix(r.Texto, fmt.Sprintf("~%d~", r.N)) {
		return fmt.Errorf("row %d has the text of another: %.20q", r.N, r.Texto)
	}
	return nil
}

// pipe is a line of the table of pipelines. All of them read the same topic, each in a
// group of its own.
type pipe struct {
	name   string
	topics []string // that it writes to, after the world's prefix
	once   bool     // repeated events are to be dropped
	least  bool     // rows may be there twice
	static bool     // members are static ones of their groups
	// build adds sinks behind the rows; tx is for those that need a transaction.
	build func(b *building)
	// read gives the rows of its outputs, one slice for each place that is to hold all.
	read func(w *world) ([][]fila, error)
	// letters says where rejected rows are when the members' files do not hold them.
	letters func(w *world) ([]int64, error)
}

// building is a pipeline that is being built in a member.
type building struct {
	s    settings
	pipe pipe
	src  *kafkasource.Source[fila]
	c    leat.Config
	to   []leat.Sink[fila]
	once bool // Dedupe goes before the sinks
}

func (b *building) transaction() *kafkasink.Transaction {
	return kafkasink.NewTransaction(kafkasink.TransactionConfig{
		Source: b.src, Brokers: b.s.Brokers, Timeout: txTimeout, Opts: b.s.opts(),
	})
}

var pipes = []pipe{{
	name: "kafka", topics: []string{"kafka", "kafka-bad"},
	build: func(b *building) {
		tx := b.transaction()
		b.c.DeadLetters = tx.DeadLetters(b.s.topic("kafka-bad"))
		b.to = append(b.to, kafkasink.New(kafkasink.Config[fila]{Transaction: tx, Topic: b.s.topic("kafka"), Key: keyOf}))
	},
	read:    func(w *world) ([][]fila, error) { return one(w.readTopic("kafka")) },
	letters: func(w *world) ([]int64, error) { return w.readLetters("kafka-bad") },
}, {
	name: "kafka static", topics: []string{"static"}, static: true,
	build: func(b *building) {
		b.to = append(b.to, kafkasink.New(kafkasink.Config[fila]{Transaction: b.transaction(), Topic: b.s.topic("static"), Key: keyOf}))
	},
	read: func(w *world) ([][]fila, error) { return one(w.readTopic("static")) },
}, {
	// Here the group's offsets are all that is known (rule E7-1).
	name: "kafka at least once", topics: []string{"least"}, least: true,
	build: func(b *building) {
		b.c.Require = leat.AtLeastOnce
		b.to = append(b.to, kafkasink.New(kafkasink.Config[fila]{Brokers: b.s.Brokers, Opts: b.s.opts(), Topic: b.s.topic("least"), Key: keyOf}))
	},
	read: func(w *world) ([][]fila, error) { return one(w.readTopic("least")) },
}, {
	name:  "sqlite",
	build: func(b *building) { b.to = append(b.to, tableOf(b.s, "sqlite")) },
	read:  func(w *world) ([][]fila, error) { return one(readTable(w.out("sqlite"))) },
}, {
	name: "parquet",
	build: func(b *building) {
		b.to = append(b.to, parquetsink.New(parquetsink.Config[fila]{Name: "lago", Dir: b.s.out("parquet"), Roll: parquetsink.Roll{Rows: 5000, Age: 2 * time.Second, Idle: 500 * time.Millisecond}}))
	},
	read: func(w *world) ([][]fila, error) { return one(readLake(w.out("parquet"))) },
}, {
	name: "kafka+sqlite", topics: []string{"both"},
	build: func(b *building) {
		b.to = append(b.to, kafkasink.New(kafkasink.Config[fila]{Transaction: b.transaction(), Topic: b.s.topic("both"), Key: keyOf}), tableOf(b.s, "both"))
	},
	read: func(w *world) ([][]fila, error) {
		topic, err1 := w.readTopic("both")
		rows, err2 := readTable(w.out("both"))
		return [][]fila{topic, rows}, errors.Join(err1, err2)
	},
}, {
	// What Dedupe remembers moves between the members with the partitions.
	name: "dedupe", topics: []string{"dedupe"}, once: true,
	build: func(b *building) {
		b.c.State = state.Postgres(state.PostgresConfig{DSN: b.s.PG, Schema: "leat_" + b.s.World})
		b.once = true
		b.to = append(b.to, kafkasink.New(kafkasink.Config[fila]{Transaction: b.transaction(), Topic: b.s.topic("dedupe"), Key: keyOf}), tableOf(b.s, "dedupe"))
	},
	read: func(w *world) ([][]fila, error) {
		topic, err1 := w.readTopic("dedupe")
		rows, err2 := readTable(w.out("dedupe"))
		return [][]fila{topic, rows}, errors.Join(err1, err2)
	},
}}

func pipeNamed(name string) pipe {
	return pipes[slices.IndexFunc(pipes, func(p pipe) bool { return p.name == name })]
}

func one(rows []fila, err error) ([][]fila, error) { return [][]fila{rows}, err }

func keyOf(r *fila) []byte { return fmt.Appendf(nil, "k%d", r.Evento%97) }

// tableOf is one file for all members.
func tableOf(s settings, name string) leat.Sink[fila] {
	return sqlitesink.New(sqlitesink.Config[fila]{Path: s.out(name), Table: "filas", Synchronous: sqlitesink.Normal})
}

func readTable(path string) (out []fila, err error) {
	conn, err := sqlite.OpenConn(path, sqlite.OpenReadWrite)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	err = sqlitex.Execute(conn, "SELECT n, evento, texto FROM filas", &sqlitex.ExecOptions{ResultFunc: func(stmt *sqlite.Stmt) error {
		r := fila{stmt.ColumnInt64(0), stmt.ColumnInt64(1), stmt.ColumnText(2)}
		out = append(out, r)
		return r.check()
	}})
	return out, err
}

// readLake reads the files that the manifest names.
func readLake(dir string) (out []fila, err error) {
	files, err := lake.Files(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, f.Path))
		if err != nil {
			return nil, err
		}
		rows, err := parquet.Read[fila](bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.Path, err)
		}
		if int64(len(rows)) != f.Rows {
			return nil, fmt.Errorf("%s holds %d rows, the manifest says %d", f.Path, len(rows), f.Rows)
		}
		for _, r := range rows {
			if err := r.check(); err != nil {
				return nil, err
			}
		}
		out = append(out, rows...)
	}
	return out, nil
}

// mira is the stage: it refuses some rows.
type mira struct{}

func (mira) Process(_ context.Context, in, out *leat.Batch[fila]) error {
	rows := in.Rows()
	for i := range rows {
		if kindOf(rows[i].N) == refused {
			out.Reject(i, leat.Transform, errors.New("the stage refuses it"))
		} else {
			out.Append(rows[i], i)
		}
	}
	return nil
}

type kind int

const (
	good kind = iota
	undecodable
	refused
	repeated // a good one, with the event of an earlier record
)

// kindOf is what record n is.
func kindOf(n int64) kind {
	switch {
	case n%100 == 3:
		return undecodable
	case n%100 == 7:
		return refused
	case n%50 == 0:
		return repeated
	}
	return good
}

// record is the value and the key of record n, of 1 and up. A repeated event has the key of the first, so that
// it is in the same partition.
func record(n int64) (key, value []byte) {
	r := fila{N: n, Evento: n, Texto: fmt.Sprintf("~%d~%s", n, padding)}
	switch kindOf(n) {
	case repeated:
		r.Evento = n - 1 - 50*(n*7919%min(20, n/50))
	case undecodable:
		return keyOf(&r), fmt.Appendf(nil, `{"n":"~%d~"`, n)
	}
	return keyOf(&r), fmt.Appendf(nil, `{"n":%d,"evento":%d,"texto":%q}`, r.N, r.Evento, r.Texto)
}

var padding = strings.Repeat("x", 60)

func TestRecord(t *testing.T) {
	for n := int64(1); n < 5000; n++ {
		if _, v := record(n); kindOf(n) == repeated && bytes.Contains(v, fmt.Appendf(nil, `"evento":%d,`, n)) {
			t.Fatal(string(v))
		}
	}
}
