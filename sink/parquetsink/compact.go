package parquetsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"time"

	"github.com/parquet-go/parquet-go"
	thriftformat "github.com/parquet-go/parquet-go/format"

	"github.com/leatgo/leat/internal/lake"
)

// FileInfo is a file that counts: its rows are committed.
type FileInfo struct {
	Path             string // relative to the lake's root, with slashes
	Bytes, Rows      int64
	MinTime, MaxTime time.Time // of the rows' event times; zero when Config.EventTime was not set
	Pipeline, Sink   string    // who wrote it; "" and "@compact" for a file that Compact made
}

// Files lists the files that count, oldest first: every committed row is in
// exactly one of them. It may be called while sinks and Compact work.
//
// A file can be deleted between Files and its opening, when Compact replaces it
// in that moment: then list again. A file that is open stays readable.
func Files(dir string) ([]FileInfo, error) {
	files, err := lake.Files(dir)
	if err != nil {
		return nil, fmt.Errorf("parquetsink: files: %w", err)
	}
	out := make([]FileInfo, len(files))
	for i, f := range files {
		out[i] = FileInfo{Path: f.Path, Bytes: f.Bytes, Rows: f.Rows, MinTime: f.MinTime, MaxTime: f.MaxTime, Pipeline: f.Pipeline, Sink: f.Sink}
	}
	return out, nil
}

// CompactConfig says which files Compact replaces. The zero value is safe.
type CompactConfig struct {
	Target       int64 // bytes that a replacing file should have, about. Defaults to 128 MiB
	Smaller      int64 // only files below this many bytes are replaced. Defaults to half of Target
	RowGroupRows int   // of the replacing files, at most. Defaults to 131,072; at most 1,048,576
}

// CompactStats is what Compact has done.
type CompactStats struct {
	Replaced int   // files that are no more
	Written  int   // files in their place
	Bytes    int64 // of those
	Rows     int64 // in those
}

// Compact replaces the small files of each folder of the lake by few large ones,
// with the same rows in the same order, all columns, and the same compression.
// Files of different columns are not mixed. It needs neither the row type nor
// the engine that wrote the files, little memory, and may run while sinks write,
// but not twice at a time. When it is killed, the next one finishes its work.
//
// Readers that go by Files see each row once at any time. Those that read the
// folder itself may see rows twice for the milliseconds between the coming of a
// replacing file and the going of the replaced ones.
func Compact(ctx context.Context, dir string, c CompactConfig) (CompactStats, error) {
	var faults []error
	if c.Target < 0 || c.Smaller < 0 {
		faults = append(faults, errors.New("the sizes Target and Smaller can't be negative; 0 is the default"))
	}
	if c.RowGroupRows < 0 || c.RowGroupRows > maxGroup {
		faults = append(faults, fmt.Errorf("RowGroupRows is %d: it is a number of rows up to %d, or 0 for %d", c.RowGroupRows, maxGroup, defaultGroup))
	}
	if err := errors.Join(faults...); err != nil {
		return CompactStats{}, fmt.Errorf("parquetsink: compact: %w", err)
	}
	group := int64(c.RowGroupRows)
	if group == 0 {
		group = defaultGroup
	}
	stats, err := lake.Compact(ctx, dir, lake.CompactOptions{
		Ext: extension, Target: c.Target, Smaller: c.Smaller,
		Merge: func(ctx context.Context, files []string, w io.Writer) (int64, error) {
			m := merger{out: countingWriter{w: w}, group: group}
			return m.merge(ctx, files)
		},
	})
	if err != nil {
		return CompactStats(stats), fmt.Errorf("parquetsink: %w", err)
	}
	return CompactStats(stats), nil
}

// merger makes one file of several.
type merger struct {
	out   countingWriter
	group int64

	w        *parquet.GenericWriter[any]
	schema   *parquet.Schema
	metadata map[string]string // that all files have
	buf      []parquet.Row
	rows     int64
	inGroup  int64
	groups   int
	floats   []bool // by column; nil: none is of floats
	nans     nanGroups
}

// mergeBytes bounds the encoded pages of an open row group (rule F8).
const mergeBytes = 64 << 20

func (m *merger) merge(ctx context.Context, files []string) (rows int64, err error) {
	m.buf = make([]parquet.Row, 256)
	for _, path := range files {
		if err := m.add(ctx, path); err != nil {
			return m.rows, fmt.Errorf("%s: %w", path, err)
		}
	}
	if err := m.flush(); err != nil {
		return m.rows, err
	}
	for k, v := range m.metadata {
		m.w.SetKeyValueMetadata(k, v)
	}
	return m.rows, closeWithout(m.w, &m.out, func(group int, path []string) bool {
		leaf, ok := m.schema.Lookup(path...)
		return !ok || !hasBounds(leaf.Node) || m.nans.has(group, leaf.ColumnIndex)
	})
}

// hasBounds is bounded for columns of files.
func hasBounds(leaf parquet.Node) bool {
	switch leaf.Type().Kind() {
	case parquet.ByteArray, parquet.FixedLenByteArray, parquet.Int96:
		return false
	}
	return true
}

func (m *merger) add(ctx context.Context, path string) (err error) {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	f, err := parquet.OpenFile(in, info.Size(), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return err
	}
	metadata := map[string]string{}
	for _, kv := range f.Metadata().KeyValueMetadata {
		metadata[kv.Key] = kv.Value
	}
	if m.w == nil {
		m.metadata = metadata
		if err := m.begin(f.Root()); err != nil {
			return err
		}
	}
	maps.DeleteFunc(m.metadata, func(k, v string) bool { other, ok := metadata[k]; return !ok || other != v })
	if !parquet.EqualNodes(m.schema, f.Schema()) {
		return errors.New("the columns are not those of the files before it, although the manifest says so; nothing was replaced")
	}
	for _, g := range f.RowGroups() {
		if err := m.copy(ctx, g); err != nil {
			return err
		}
	}
	return nil
}

func (m *merger) begin(root *parquet.Column) error {
	m.schema = parquet.NewSchema(root.Name(), recode(root))
	options := []parquet.WriterOption{
		m.schema, parquet.DataPageStatistics(false), parquet.DataPageVersion(1), parquet.WriteBufferSize(0),
		parquet.DictionaryMaxBytes(maxDictionary), parquet.CreatedBy("leat", "", ""),
	}
	for _, path := range m.schema.Columns() {
		leaf, ok := m.schema.Lookup(path...)
		if !ok {
			continue
		}
		if !hasBounds(leaf.Node) {
			options = append(options, parquet.SkipPageBounds(path...))
		}
		if k := leaf.Node.Type().Kind(); k == parquet.Float || k == parquet.Double {
			if m.floats == nil {
				m.floats = make([]bool, len(m.schema.Columns()))
			}
			m.floats[leaf.ColumnIndex] = true
		}
	}
	if _, err := parquet.NewWriterConfig(options...); err != nil {
		return err
	}
	m.w = parquet.NewGenericWriter[any](&m.out, options...)
	return nil
}

// recode gives a column of a file as a node to write: the same types, names, ids
// and compression, in encodings that every reader knows.
func recode(c *parquet.Column) parquet.Node {
	if !c.Leaf() {
		g := &recoded{Node: c}
		for _, child := range c.Columns() {
			g.fields = append(g.fields, groupField{recode(child), child.Name()})
		}
		return g
	}
	var node parquet.Node = c
	if codec := c.Compression(); codec != nil && codec.CompressionCodec() == thriftformat.Snappy {
		node = parquet.Compressed(node, snappyCodec{})
	}
	if e := c.Encoding(); e != nil && c.Type().Kind() != parquet.Boolean {
		switch e.Encoding() {
		//lint:ignore SA1019 old writers use it, and other engines may
		case thriftformat.RLEDictionary, thriftformat.PlainDictionary:
			return parquet.Encoded(node, &parquet.RLEDictionary)
		}
	}
	return parquet.Encoded(node, &parquet.Plain)
}

// recoded is a group of a file with other nodes for its fields.
type recoded struct {
	parquet.Node
	fields []parquet.Field
}

func (g *recoded) Fields() []parquet.Field { return g.fields }

// flush ends the row group, if there is one.
func (m *merger) flush() error {
	if m.inGroup == 0 {
		return nil
	}
	m.inGroup = 0
	m.nans.end()
	return m.w.Flush()
}

func (m *merger) noteNaN(rows []parquet.Row) {
	if m.floats == nil {
		return
	}
	for _, r := range rows {
		for _, v := range r {
			c := v.Column()
			if m.floats[c] && !v.IsNull() && (v.Kind() == parquet.Float && v.Float() != v.Float() || v.Kind() == parquet.Double && v.Double() != v.Double()) {
				m.nans.add(c, len(m.floats))
			}
		}
	}
}

func (m *merger) copy(ctx context.Context, g parquet.RowGroup) (err error) {
	rows := g.Rows()
	defer func() { err = errors.Join(err, rows.Close()) }()
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, readErr := rows.ReadRows(m.buf[:max(1, min(int64(len(m.buf)), m.group-m.inGroup))])
		if n > 0 {
			if _, err := m.w.WriteRows(m.buf[:n]); err != nil {
				return err
			}
			m.noteNaN(m.buf[:n])
			m.rows += int64(n)
			m.inGroup += int64(n)
			if (m.inGroup >= m.group || m.w.Size()-m.out.n >= mergeBytes) && m.groups < maxGroups { // rule F8
				m.groups++
				if err := m.flush(); err != nil {
					return err
				}
			}
		}
		if errors.Is(readErr, io.EOF) {
			return nil
		}
		if readErr != nil {
			return readErr
		}
		if n == 0 {
			return io.ErrNoProgress
		}
	}
}
