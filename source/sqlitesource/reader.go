package sqlitesource

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/cursor"
	"github.com/leatgo/leat/internal/row"
)

// reader is one life of a source. It reads a page in a transaction of its own, ends that,
// and hands the page on: nothing is open while the engine takes it.
type reader[T any] struct {
	config    *Config[T]
	in        intake[T]
	log       *slog.Logger
	afterPage func()

	db        *db
	shape     *shape
	partition string
	logName   string
	bounds    bounds
	statement map[string]*sqlite.Stmt // by their text

	state cursor.State // where offsets are numbers of rows
	tail  cursor.Tail  // where they are the keys
	ahead int64        // where the sink that holds most stands
	kind  cursor.Kind  // of the cursor's first column so far; Null before the first row
	times timeOrder    // of a cursor that is a time

	looked  bool  // the database was looked at whole, as it was at
	version int64 // this data_version,
	schema  int64 // and this schema_version
	end     bool  // and all its rows were read

	warned  map[string]bool
	scratch []cursor.Value
}

func (r *reader[T]) close() {
	if r.db != nil {
		r.forget()
		_ = r.db.close() // it was only read
		r.db = nil
	}
}

// forget finalizes what was prepared.
func (r *reader[T]) forget() {
	for _, stmt := range r.statement {
		_ = stmt.Finalize()
	}
	r.statement = map[string]*sqlite.Stmt{}
}

// warn says something once in a life.
func (r *reader[T]) warn(what, msg string, args ...any) {
	if r.warned == nil {
		r.warned = map[string]bool{}
	}
	if !r.warned[what] {
		r.warned[what] = true
		r.log.Warn(msg, append([]any{"database", r.config.Path, "of", r.config.what()}, args...)...)
	}
}

func (r *reader[T]) open(ctx context.Context) error {
	r.close()
	d, err := openDB(ctx, r.config.Path, r.busy())
	if err != nil {
		return err
	}
	r.db, r.looked, r.end, r.statement = d, false, false, map[string]*sqlite.Stmt{}
	if r.schema, _, err = d.number("PRAGMA schema_version"); err != nil {
		return err
	}
	return r.inspect()
}

func (r *reader[T]) busy() time.Duration {
	return max(0, orDefault(r.config.BusyTimeout, defaultBusy))
}

// inspect looks at the schema.
func (r *reader[T]) inspect() error {
	r.forget()
	s, err := r.config.inspect(r.db)
	if err != nil {
		return err
	}
	if r.shape != nil && (s.keys != r.shape.keys || len(s.at) != len(r.shape.at) || !sameNames(s.keyNames(), r.shape.keyNames())) {
		return fmt.Errorf("its schema has changed while it was read: its rows are now told apart by %v, and were by %v; start again", s.keyNames(), r.shape.keyNames())
	}
	r.shape = s
	r.times.column = nil
	if i := s.at[0]; i < len(s.columns) && s.columns[i].Kind == row.Time {
		r.times.column = s.columns[i]
	}
	r.adviseIndex()
	return nil
}

// keyNames are the columns that tell rows apart.
func (s *shape) keyNames() []string {
	var out []string
	for _, i := range append(append([]int(nil), s.at...), s.key...) {
		out = append(out, s.names[i])
	}
	return out
}

// adviseIndex says once if SQLite sorts the whole table for each page.
func (r *reader[T]) adviseIndex() {
	s := r.shape
	q := &query{}
	q.and(s.vector(s.at)+" > "+marks(s.at), make([]cursor.Value, len(s.at))...)
	sorts := false
	err := r.db.each("EXPLAIN QUERY PLAN "+s.rows(q, 1), q.args, func(stmt *sqlite.Stmt) error {
		sorts = sorts || strings.Contains(stmt.ColumnText(3), "USE TEMP B-TREE")
		return nil
	})
	if err != nil || !sorts {
		return // another statement will tell
	}
	advice := fmt.Sprintf("an index by which SQLite can give the rows ORDER BY %s", quoteAll(s.keyNames()))
	if s.table != "" {
		var columns []string
		for _, i := range append(append([]int(nil), s.at...), s.key...) {
			if !s.rowid[i] {
				columns = append(columns, quote(s.names[i]))
			}
		}
		advice = fmt.Sprintf("CREATE INDEX %s ON %s (%s)", quote(s.table+"_cursor"), quote(s.table), strings.Join(columns, ", "))
	}
	r.warn("index", "no index serves the cursor: SQLite sorts all rows for each page", "remedy", advice)
}

func (r *reader[T]) run(ctx context.Context) error {
	if err := r.open(ctx); err != nil {
		return err
	}
	c := r.config
	how := "numbered"
	if r.shape.keys {
		how = "by key"
	}
	var err error
	if r.logName, err = c.log(how); err != nil {
		return err
	}
	if c.Backfill.set() {
		r.partition = "backfill-" + c.Backfill.name()
		t, err := row.Of[T]()
		if err != nil {
			return err
		}
		first := names(c.Cursor)[0]
		if c.Backfill.From != nil {
			if r.bounds.from, err = bound(t, first, c.Backfill.From); err != nil {
				return err
			}
		}
		if r.bounds.to, err = bound(t, first, c.Backfill.To); err != nil {
			return err
		}
	}
	at, err := r.in.Assign(leat.Partition{Name: r.partition, Log: r.logName})
	if err != nil {
		return &engineError{err}
	}
	if err := r.start(at[r.partition]); err != nil {
		return err
	}
	r.ahead = r.in.Ahead(r.partition)
	for sent := true; ; sent = false {
		for {
			p, err := r.page(ctx)
			if err != nil {
				return err
			}
			if p == nil {
				break
			}
			if r.afterPage != nil {
				r.afterPage()
			}
			sent = true
			if err := r.in.Send(p.send()); err != nil {
				return &engineError{err}
			}
		}
		if sent { // nothing new: nothing to say
			r.in.CaughtUp()
		}
		if c.Every == 0 {
			return nil
		}
		if err := r.wait(ctx); err != nil {
			return err
		}
		if r.db.replaced() {
			// The open file is not the one that others see any more.
			r.log.Info("the database file was replaced; opening it again", "database", c.Path)
			if err := r.open(ctx); err != nil {
				return err
			}
		}
	}
}

// start takes up the position. Never a silent start from elsewhere: a position that can't
// be read is an error.
func (r *reader[T]) start(pos leat.Position) error {
	c := r.config
	r.state = cursor.State{Max: orDefault(c.MaxSeen, defaultMaxSeen)}
	switch {
	case c.Overlap > 0:
		r.state.Width, r.state.Measure = int64(c.Overlap), r.times.measure
	case c.OverlapUnits > 0:
		r.state.Width, r.state.Measure = c.OverlapUnits, measureInt
	}
	if !pos.Known() {
		return nil
	}
	bad := func(err error) error {
		return fmt.Errorf("the position %q at %d can't be used: %w; to read from the beginning, delete this partition's positions in the sinks and in the state folder (see leat reset)", pos.Resume, pos.Next, err)
	}
	if r.shape.keys {
		if pos.Resume == "" { // moved there by hand (leat reset): the key says it all
			r.tail.Restore(cursor.Mark{Last: pos.Next - 1, From: pos.Next})
			return nil
		}
		m, err := cursor.DecodeMark(pos.Resume)
		if err == nil && m.Last != pos.Next-1 {
			err = fmt.Errorf("it was taken behind key %d", m.Last)
		}
		if err != nil {
			return bad(err)
		}
		r.tail.Restore(m)
		return nil
	}
	err := r.state.Decode(pos.Resume, len(r.shape.at), len(r.shape.key))
	if err == nil && r.state.Rows != pos.Next {
		err = fmt.Errorf("it was taken behind %d rows", r.state.Rows)
	}
	if err != nil {
		return bad(err)
	}
	if r.state.Started() {
		r.kind = r.state.High.At[0].Class()
	}
	return nil
}

func measureInt(v cursor.Value) (int64, error) {
	if v.Kind != cursor.Int {
		return 0, fmt.Errorf("the cursor holds %s, %v, and OverlapUnits is for integers", v.Kind, v)
	}
	return v.Int, nil
}

// lower is where the overlap begins, as the database has it; Null if there is none.
func (r *reader[T]) lower() (cursor.Value, error) {
	switch {
	case r.config.OverlapUnits > 0:
		return cursor.Value{Kind: cursor.Int, Int: r.state.Floor()}, nil
	case r.config.Overlap > 0:
		text, err := r.times.like(r.state.High.At[0].Str, r.state.Floor())
		return cursor.Value{Kind: cursor.Text, Str: text}, err
	}
	return cursor.Value{}, nil
}

// page reads the next rows. nil: there are none now.
func (r *reader[T]) page(ctx context.Context) (p *page[T], err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	err = r.db.snapshot(func() error {
		version, _, err := r.db.number("PRAGMA data_version")
		if err != nil {
			return err
		}
		if r.looked && version == r.version && r.end {
			return nil
		}
		p = r.newPage()
		if !r.looked || version != r.version {
			r.looked, r.end = false, false
			full, err := r.look(p)
			if err != nil || full {
				return err
			}
			r.looked, r.version = true, version
		}
		return r.readOn(p)
	})
	switch {
	case err != nil:
		return nil, err
	case p == nil || p.rows == 0:
		return nil, nil
	}
	p.finish()
	return p, nil
}

// look is done before rows are read of a database that has changed, or is not known yet.
// full: the page is full already, and the look is to be taken again.
func (r *reader[T]) look(p *page[T]) (full bool, err error) {
	schema, _, err := r.db.number("PRAGMA schema_version")
	if err != nil {
		return false, err
	}
	if schema != r.schema {
		if err := r.inspect(); err != nil {
			return false, err
		}
		r.schema, p.shape = schema, r.shape
	}
	if r.config.Backfill.set() {
		return false, nil
	}
	if err := r.lookAtStart(); err != nil {
		return false, err
	}
	if r.shape.keys {
		last := r.aheadKey()
		if r.tail.Some {
			last = max(last, r.tail.Last)
		}
		if last == math.MinInt64 {
			return false, nil
		}
		if err := r.lookAtEnd([]cursor.Value{{Kind: cursor.Int, Int: last}}); err != nil || !r.tail.Some {
			return false, err
		}
		return false, r.lookAtTail()
	}
	if !r.state.Started() {
		return false, nil
	}
	if err := r.lookAtEnd(r.state.High.At); err != nil {
		return false, err
	}
	return r.lookBack(p)
}

// aheadKey is the last key that some sink holds: it does not get rows up to there again,
// so there must be none that it did not have.
func (r *reader[T]) aheadKey() int64 {
	if r.config.AppendOnly && r.ahead != 0 {
		return r.ahead - 1
	}
	return math.MinInt64
}

// lookAtStart finds rows that have no place in the order. Such a row sorts before all
// others, where nobody would look for it again.
func (r *reader[T]) lookAtStart() error {
	s := r.shape
	q := &query{}
	exprs := make([]string, len(s.at))
	for i, c := range s.at {
		exprs[i] = s.exprs[c]
	}
	var first []cursor.Value
	err := r.db.each("SELECT "+strings.Join(exprs, ", ")+" FROM "+s.from+q.clause()+s.order()+" LIMIT 1", nil, func(stmt *sqlite.Stmt) error {
		for i := range s.at {
			first = append(first, value(stmt, i))
		}
		return nil
	})
	if err != nil || first == nil {
		return err
	}
	return r.checkKind(first)
}

// checkKind makes sure that all cursors are of one kind. Others sort apart: a late row of
// a lower kind would never be seen.
func (r *reader[T]) checkKind(at []cursor.Value) error {
	for i, v := range at {
		if v.Kind == cursor.Null {
			return fmt.Errorf("the cursor %s is NULL in some row, which has no place in the order and would be missed: give those rows a value, or read a Query … WHERE %s IS NOT NULL", r.shape.names[r.shape.at[i]], quote(r.shape.names[r.shape.at[i]]))
		}
	}
	kind := at[0].Class()
	switch {
	case r.kind == cursor.Null:
		r.kind = kind
	case r.kind != kind:
		return fmt.Errorf("the cursor %s holds %s in one row and %s in others, which SQLite sorts apart, so that rows would be missed: make them all the same, or read a Query with a cast", r.shape.names[r.shape.at[0]], kind, r.kind)
	}
	return r.times.check(at[0])
}

// lookAtEnd finds out whether the table reaches the position (rule A2-1).
func (r *reader[T]) lookAtEnd(at []cursor.Value) error {
	s := r.shape
	q := &query{}
	q.and(s.vector(s.at)+" >= "+marks(s.at), at...)
	_, some, err := r.db.number("SELECT 1 FROM "+s.from+q.clause()+" LIMIT 1", q.args...)
	if err != nil || some {
		return err
	}
	if s.seq != "" {
		// Nothing is missed as long as SQLite goes on counting from here.
		last, some, err := r.db.number("SELECT seq FROM main.sqlite_sequence WHERE name = ?1", cursor.Value{Kind: cursor.Text, Str: s.seq})
		if err != nil {
			return err
		}
		if some && last >= at[0].Int {
			return nil
		}
	} else if r.config.Purged {
		return nil
	}
	if r.kind == cursor.Text && !s.keys { // new rows are greater all the same
		r.warn("end", "the newest rows that were read are gone: they were deleted, or the database is an older copy", "read up to", at)
		return nil
	}
	return fmt.Errorf("rule A2-1: it ends before %s %v, up to which it was read: it is an older copy, whose new rows would be missed, or the newest rows were deleted and their numbers may be given again. "+
		"If they were deleted and numbers are never used twice, set Purged (or make the key AUTOINCREMENT). To read the table from its start, delete this partition's positions in the sinks and in the state folder", s.names[s.at[0]], at[0])
}

// lookAtTail finds rows that have appeared below the cursor, of a table that is read by
// key.
func (r *reader[T]) lookAtTail() error {
	s, was := r.shape, r.tail.Mark()
	q := &query{}
	q.and(s.vector(s.at)+" >= ?", cursor.Value{Kind: cursor.Int, Int: was.From})
	q.and(s.vector(s.at)+" <= ?", cursor.Value{Kind: cursor.Int, Int: was.Last})
	var keys []int64
	err := r.db.each("SELECT "+s.exprs[s.at[0]]+" FROM "+s.from+q.clause()+s.order()+" LIMIT 100000", q.args, func(stmt *sqlite.Stmt) error {
		keys = append(keys, stmt.ColumnInt64(0))
		return nil
	})
	if err != nil {
		return err
	}
	n, sum := cursor.Sum(keys)
	if n == was.N && sum == was.Sum {
		r.tail.Keys(was, keys)
		return nil
	}
	name := s.names[s.at[0]]
	if r.config.AppendOnly && (n >= was.N || !r.config.Purged) {
		return fmt.Errorf("AppendOnly does not hold: of %s %d to %d there were %d rows when they were read, and now there are %d others. Sinks have missed what has appeared there. "+
			"Read it once more by a Backfill, and set AppendOnly no more (or Purged, if rows that were read are deleted)", name, was.From, was.Last, was.N, n)
	}
	if n > was.N {
		r.log.Warn("rows have appeared below the cursor and are not read: set OverlapUnits to look back for them, and read them by a Backfill",
			"database", r.config.Path, "of", r.config.what(), "column", name, "from", was.From, "to", was.Last, "rows", n, "before", was.N)
	}
	r.tail.Keys(was, keys)
	return nil
}

// lookBack reads rows that have come up to the highest place since they were read (rule
// I1).
func (r *reader[T]) lookBack(p *page[T]) (full bool, err error) {
	s := r.shape
	if len(s.key) == 0 && r.state.Width == 0 || r.state.FromStart(len(s.key) > 0) {
		return false, nil
	}
	lower, err := r.lower()
	if err != nil {
		return false, err
	}
	q := s.before(r.state.High, lower)
	if !r.state.Folded() {
		return r.rows(p, s.rows(q, math.MaxInt32), q.args, true)
	}
	var now cursor.Check
	exprs := make([]string, 0, len(s.at)+len(s.key))
	for _, c := range append(append([]int(nil), s.at...), s.key...) {
		exprs = append(exprs, s.exprs[c])
	}
	err = r.db.each("SELECT "+strings.Join(exprs, ", ")+" FROM "+s.from+q.clause(), q.args, func(stmt *sqlite.Stmt) error {
		var at cursor.Place
		for i := range exprs {
			if v := value(stmt, i); i < len(s.at) {
				at.At = append(at.At, v)
			} else {
				at.Key = append(at.Key, v)
			}
		}
		now.Add(at)
		return nil
	})
	if err != nil {
		return false, err
	}
	if !now.Same(&r.state) {
		r.log.Warn("rows have come or gone among those of the newest cursor value, more than MaxSeen can tell apart: all of that value are read again",
			"database", r.config.Path, "of", r.config.what(), "cursor", r.state.High.At)
		r.state.Reread()
	}
	return false, nil
}

// readOn reads rows behind the highest place.
func (r *reader[T]) readOn(p *page[T]) error {
	limit := orDefault(r.config.PageRows, defaultPageRows) + 1 // one more, to see that it is another
	same, after := r.shape.behind(r.high(), r.bounds)
	for _, q := range []*query{same, after} {
		if q == nil {
			continue
		}
		full, err := r.rows(p, r.shape.rows(q, limit), q.args, false)
		if err != nil || full {
			return err
		}
	}
	r.end = true
	return nil
}

func (r *reader[T]) high() cursor.Place {
	if !r.shape.keys {
		return r.state.High
	}
	if !r.tail.Some {
		return cursor.Place{}
	}
	return cursor.Place{At: []cursor.Value{{Kind: cursor.Int, Int: r.tail.Last}}}
}

// rows reads the rows of a statement into the page, until it is full. late: those that
// were seen are left out.
func (r *reader[T]) rows(p *page[T], text string, args []cursor.Value, late bool) (full bool, err error) {
	stmt := r.statement[text]
	if stmt == nil {
		if stmt, _, err = r.db.conn.PrepareTransient(text); err != nil {
			return false, err
		}
		r.statement[text] = stmt
	}
	defer func() { err = errors.Join(err, stmt.Reset()) }()
	bind(stmt, args)
	for {
		more, err := stmt.Step()
		if err != nil || !more {
			return false, err
		}
		cells := p.read(stmt)
		if r.shape.keys {
			v := cells[r.shape.at[0]]
			if err := r.checkKind(cells[r.shape.at[0]:][:1]); err != nil {
				return false, err
			}
			if v.Kind != cursor.Int {
				return false, fmt.Errorf("the cursor %s holds %s, %v, and its offsets are integers", r.shape.names[r.shape.at[0]], v.Kind, v)
			}
			if full, err := r.step(p, r.tail.Some && v.Int == r.tail.Last); full || err != nil {
				return full, err
			}
			if v.Int == math.MaxInt64 {
				return false, fmt.Errorf("the cursor %s is %d in a row, behind which there is no offset; no such key can be read", r.shape.names[r.shape.at[0]], v.Int)
			}
			r.tail.Add(v.Int)
			p.take(cells, v.Int)
			continue
		}
		at := r.place(cells)
		if late && r.state.Seen(at) {
			continue
		}
		if full, err := r.step(p, !late && r.state.Started() && at.Equal(r.state.High)); full || err != nil {
			return full, err
		}
		if err := r.checkPlace(at); err != nil {
			return false, err
		}
		p.take(cells, 0)
		if late {
			err = r.state.Late(at)
		} else if err = r.times.after(at.At[0]); err == nil {
			err = r.state.Ahead(at)
		}
		var many *cursor.TooManyError
		if errors.As(err, &many) {
			return false, fmt.Errorf("%w: raise MaxSeen, or make the overlap smaller", err)
		}
		if err != nil {
			return false, err
		}
	}
}

// step is what is looked at before each row. full: it is for the next page.
func (r *reader[T]) step(p *page[T], twice bool) (full bool, err error) {
	if twice {
		return false, fmt.Errorf("two rows have the same %v: Cursor and Key must tell all rows apart", r.shape.keyNames())
	}
	return p.full(), nil
}

// maxValue bounds what positions carry.
const maxValue = 4 << 10

// checkPlace makes sure that a row can be told apart and be gone on from.
func (r *reader[T]) checkPlace(at cursor.Place) error {
	s := r.shape
	if err := r.checkKind(at.At); err != nil {
		return err
	}
	for i, v := range at.At {
		if len(v.Str) > maxValue {
			return fmt.Errorf("the cursor %s has %d bytes in a row, more than the %d that a position may have", s.names[s.at[i]], len(v.Str), maxValue)
		}
	}
	for i, v := range at.Key {
		switch {
		case v.Kind == cursor.Null:
			return fmt.Errorf("the key %s is NULL in a row, which so can't be told apart from others", s.names[s.key[i]])
		case len(v.Str) > maxValue:
			return fmt.Errorf("the key %s has %d bytes in a row, more than the %d that a position may have", s.names[s.key[i]], len(v.Str), maxValue)
		}
	}
	return nil
}

// place is where a row stands. It is valid until the next call.
func (r *reader[T]) place(cells []cursor.Value) cursor.Place {
	s, both := r.shape, r.scratch[:0]
	for _, i := range s.at {
		both = append(both, cells[i])
	}
	for _, i := range s.key {
		both = append(both, cells[i])
	}
	r.scratch = both
	return cursor.Place{At: both[:len(s.at)], Key: both[len(s.at):]}
}
