package state

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/leatgo/leat"
)

// PostgresConfig says where the tables are. One of DSN and Conn is needed.
type PostgresConfig struct {
	// DSN is a connection string, as a URL or in keywords; what it leaves out comes from
	// PGPASSWORD, PGSSLMODE and so on. It is not shown in errors.
	DSN string

	// Conn is for what a DSN can't say, such as a certificate. It is copied.
	Conn *pgx.ConnConfig

	// Schema of the tables, made when it is missing. Defaults to the first of the
	// connection's search_path.
	Schema string

	// Timeout bounds connecting, one commit, and one reading of a stage's state; then the
	// connection is given up and the call is tried again. Defaults to 1 min.
	Timeout time.Duration
}

// PostgresStore is a leat.StateStore in PostgreSQL, for one pipeline at a time. It uses one
// connection, which may be that of a pooler such as PgBouncer, in any mode but that of
// statements. Pipelines may share tables.
type PostgresStore struct {
	config PostgresConfig
	schema schema

	turn     chan struct{} // holds who may use what follows; made by Open
	conn     *pgx.Conn     // nil: none, or given up
	pipeline string
	owned    map[string]*owned
	closed   bool

	gate    sync.Mutex // of the two below
	opened  bool       // until Close
	refused int        // calls of Open whose Close is still to come
}

// owned is a partition that this process has taken.
type owned struct {
	epoch, version int64
	extents        map[string]extent // of state, by stage
	doubt          bool              // whether the last commit was done is not known (rule E4)
}

// Postgres remembers c; Open connects. Every process makes its own.
func Postgres(c PostgresConfig) *PostgresStore {
	if c.Conn != nil {
		c.Conn = c.Conn.Copy()
	}
	return &PostgresStore{config: c, schema: current}
}

// Validate tells what is wrong with the configuration.
func (s *PostgresStore) Validate() error {
	var faults []error
	if (s.config.DSN == "") == (s.config.Conn == nil) {
		faults = append(faults, errors.New("state: PostgresConfig needs one of DSN and Conn"))
	}
	if s.config.DSN != "" {
		if _, err := s.parse(); err != nil {
			faults = append(faults, err)
		}
	}
	if strings.ContainsRune(s.config.Schema, 0) {
		faults = append(faults, errors.New("state: PostgresConfig.Schema holds a zero byte"))
	}
	if s.config.Timeout < 0 {
		faults = append(faults, errors.New("state: PostgresConfig.Timeout can't be negative"))
	}
	return errors.Join(faults...)
}

func (s *PostgresStore) parse() (*pgx.ConnConfig, error) {
	if s.config.Conn != nil {
		return s.config.Conn.Copy(), nil
	}
	c, err := pgx.ParseConfig(s.config.DSN)
	if err != nil {
		// The parser's own words quote parts of the string, the password among them.
		return nil, errors.New("state: PostgresConfig.DSN can't be understood; it is not shown because it may hold a password. It looks like postgres://user:password@host:5432/database?sslmode=verify-full, with what is special in the password percent-encoded")
	}
	return c, nil
}

func (s *PostgresStore) timeout() time.Duration {
	if s.config.Timeout > 0 {
		return s.config.Timeout
	}
	return time.Minute
}

// Open connects and makes or upgrades the tables.
func (s *PostgresStore) Open(ctx context.Context, pipeline string) error {
	return s.open(ctx, pipeline, s.prepare)
}

func (s *PostgresStore) open(ctx context.Context, pipeline string, tables func(context.Context, *pgx.Conn) error) error {
	if err := s.Validate(); err != nil {
		return err
	}
	if !s.enter() {
		return ownError("state: PostgreSQL: open: a pipeline has it open: each makes its own")
	}
	s.turn, s.closed = make(chan struct{}, 1), false
	s.pipeline, s.owned = pipeline, map[string]*owned{}
	err := s.do(ctx, "open", tables)
	if err != nil { // it may be tried again, without Close
		s.gate.Lock()
		s.opened = false
		s.gate.Unlock()
	}
	return err
}

// enter tells whether the store may be opened.
func (s *PostgresStore) enter() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.opened {
		s.refused++
		return false
	}
	s.opened = true
	return true
}

// leave tells whether Close is of whom the store is open for: one that was refused is told to
// close it too, and must not end the connection of the other.
func (s *PostgresStore) leave() bool {
	s.gate.Lock()
	defer s.gate.Unlock()
	if s.refused > 0 {
		s.refused--
		return false
	}
	s.opened = false
	return true
}

// Close ends the connection. It waits for a call that is under way, but not for long; calls
// that come later wait until their context ends.
func (s *PostgresStore) Close() error {
	if !s.leave() || s.turn == nil || s.closed {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	select {
	case s.turn <- struct{}{}: // for good
	case <-ctx.Done():
		s.gate.Lock()
		s.opened = true // nobody else may have its connection
		s.gate.Unlock()
		return errors.New("state: PostgreSQL: close: a call is still under way; its connection is left open")
	}
	s.closed = true
	if s.conn == nil {
		return nil
	}
	conn := s.conn
	s.conn, s.owned = nil, nil
	_ = conn.Close(ctx) // everything is committed
	return nil
}

// do runs f on the connection, and makes a new one when there is none.
func (s *PostgresStore) do(ctx context.Context, what string, f func(ctx context.Context, conn *pgx.Conn) error) error {
	if s.turn == nil {
		return fmt.Errorf("state: %s: the store is not open", what)
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, s.timeout())
	defer cancel()
	err := s.connected(ctx, f)
	if s.conn != nil && (err != nil && (!s.idle() || standby(err)) || s.conn.IsClosed()) {
		closing, cancel := context.WithTimeout(context.Background(), time.Second)
		_ = s.conn.Close(closing)
		cancel()
		s.conn = nil
	}
	switch {
	case err == nil:
		return nil
	case outer.Err() != nil:
		return fmt.Errorf("state: PostgreSQL: %s: %w", what, outer.Err())
	case ctx.Err() != nil:
		err = fmt.Errorf("it took longer than PostgresConfig.Timeout, %v: %w", s.timeout(), err)
	}
	return s.explain(what, err)
}

// standby tells whether the server takes no writes. After a failover its connection may live on
// for ever; a new one finds the server that does.
func standby(err error) bool {
	pg := (*pgconn.PgError)(nil)
	return errors.As(err, &pg) && pg.Code == readOnly
}

func (s *PostgresStore) idle() bool {
	return !s.conn.IsClosed() && s.conn.PgConn().TxStatus() == 'I' && !s.conn.PgConn().IsBusy()
}

func (s *PostgresStore) connected(ctx context.Context, f func(ctx context.Context, conn *pgx.Conn) error) error {
	if s.conn == nil {
		c, err := s.parse()
		if err != nil {
			return err
		}
		if c.RuntimeParams["application_name"] == "" {
			c.RuntimeParams["application_name"] = "leat " + s.pipeline
		}
		if c.DefaultQueryExecMode == pgx.QueryExecModeCacheStatement { // the default: statements with names are the session's
			c.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
		}
		conn, err := pgx.ConnectConfig(ctx, c)
		if err != nil {
			return err
		}
		s.conn = conn
	}
	return f(ctx, s.conn)
}

// begin begins a transaction. What it needs is set for it alone, not for the session: behind a pooler
// such as PgBouncer each transaction may find another one.
func (s *PostgresStore) begin(ctx context.Context, conn *pgx.Conn, modes string) (pgx.Tx, error) {
	// A transaction of a process that is gone must not hold rows that others wait for; and
	// committed is to mean durable (rule A3), whatever the database's own opinion.
	idle := min(max(s.timeout().Milliseconds(), 1), math.MaxInt32)
	return conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: fmt.Sprintf("BEGIN %s; SET LOCAL idle_in_transaction_session_timeout = %d; "+
		"SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') = 'off'", modes, idle)})
}

const (
	// Compare-and-set relies on what read committed promises of an UPDATE that has waited.
	readWrite = "ISOLATION LEVEL READ COMMITTED"
	oneMoment = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
)

// table is a table's name, for SQL.
func (s *PostgresStore) table(name string) string {
	if s.config.Schema == "" {
		return pgx.Identifier{"leat_state_" + name}.Sanitize()
	}
	return pgx.Identifier{s.config.Schema, "leat_state_" + name}.Sanitize()
}

// sql puts the names of the tables into a statement.
func (s *PostgresStore) sql(text string) string {
	return strings.NewReplacer("{version}", s.table("version"), "{partitions}", s.table("partitions"), "{pieces}", s.table("pieces")).Replace(text)
}

// owner is who took a partition, for people.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "?"
	}
	return fmt.Sprintf("%s, process %d", strings.ToValidUTF8(host, "?"), os.Getpid())
}

var _ leat.StateStore = (*PostgresStore)(nil)
