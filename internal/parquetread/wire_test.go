package parquetread_test

import (
	"bytes"
	"io"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/parquetread"
	"github.com/leatgo/leat/internal/row"
)

// throughPipes reads a file by a child at the other end of pipes, and keeps what it said.
func throughPipes(t testing.TB, data []byte, step int) (out outcome, said []byte, err error) {
	fromParent, toChild := io.Pipe()
	fromChild, toParent := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = parquetread.ServeChild(t.Context(), fromParent, toParent)
		_ = toParent.Close()
		_ = fromParent.Close()
	}()
	defer func() {
		_ = toChild.Close()
		_ = fromChild.Close()
		<-done
	}()
	var b bytes.Buffer
	out, err = hear(t, data, step, io.TeeReader(fromChild, &b), toChild)
	return out, b.Bytes(), err
}

// hear is the parent's part.
func hear(t testing.TB, data []byte, step int, from io.Reader, to io.Writer) (out outcome, err error) {
	d, err := parquetread.OpenDistant(bytes.NewReader(data), int64(len(data)), tight, from, to, 8<<20)
	if err != nil {
		return out, err
	}
	typ, err := row.Of[small]()
	require.NoError(t, err)
	plan, err := d.File.Plan(typ, parquetread.Drift{Missing: parquetread.ZeroMissing})
	if err != nil {
		return out, err
	}
	if err := d.Begin(plan.Columns, 0, step); err != nil {
		return out, err
	}
	for {
		p, err := d.Next()
		if err == io.EOF {
			return out, nil
		}
		if err != nil {
			return out, err
		}
		rows, refused := make([]small, p.Rows), make([]error, p.Rows)
		plan.Fill(p, unsafe.Pointer(&rows[0]), unsafe.Sizeof(rows[0]), func(i int, err error) { refused[i] = err })
		for i := range rows {
			plan.AppendJSON(nil, p, i)
			if refused[i] != nil {
				out.rows = append(out.rows, refused[i].Error())
			} else {
				out.rows = append(out.rows, show(t, typ, &rows[i]))
			}
		}
	}
}

// TestWire: rows that went through pipes are the same ones.
func TestWire(t *testing.T) {
	t.Parallel()
	for name, b := range seeds(t) {
		for _, step := range []int{0, 1, 5} {
			got, _, err := throughPipes(t, b, step)
			require.NoError(t, err, name)
			require.Equal(t, readAll(t, b, 0, 0), got, name)
		}
	}
}

// TestWireLies: whatever the child answers, the parent does not panic, and a child that
// ends in the middle is never the end of the file.
func TestWireLies(t *testing.T) {
	t.Parallel()
	b := seeds(t)["zstd.parquet"]
	want, said, err := throughPipes(t, b, 9)
	require.NoError(t, err)
	got, err := hear(t, b, 9, bytes.NewReader(said), io.Discard)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for at := range said {
		_, err := hear(t, b, 9, bytes.NewReader(said[:at]), io.Discard)
		require.ErrorIs(t, err, io.ErrUnexpectedEOF, "it ends at byte %d of %d", at, len(said))
		if at%5 != 0 {
			continue
		}
		for _, x := range []byte{0x01, 0x80, 0xff} {
			lie := bytes.Clone(said)
			lie[at] ^= x
			_, _ = hear(t, b, 9, bytes.NewReader(lie), io.Discard)
		}
	}
}

// FuzzWire: what a child says, which may have been taken over by its file.
//
//fuzz:slow
func FuzzWire(f *testing.F) {
	b := seeds(f)["delta.parquet"]
	for _, step := range []int{0, 9} {
		_, said, err := throughPipes(f, b, step)
		require.NoError(f, err)
		f.Add(said)
	}
	f.Fuzz(func(t *testing.T, said []byte) { _, _ = hear(t, b, 0, bytes.NewReader(said), io.Discard) })
}
