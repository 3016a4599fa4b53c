package textfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat/internal/engine"
)

func numbers(c Compression) Config[int] {
	return Config[int]{Ext: ".txt", Schema: "n", Header: []byte("n\n"), Compression: c, Append: func(dst []byte, n *int) ([]byte, error) {
		switch *n {
		case -1:
			return nil, errors.New("refused")
		case -2:
			panic("user code")
		}
		return fmt.Appendln(dst, *n), nil
	}}
}

func unpack(t *testing.T, c Compression, b []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	switch c {
	case Gzip:
		z, err := gzip.NewReader(r)
		require.NoError(t, err)
		r = z
	case Zstd:
		z, err := zstd.NewReader(r)
		require.NoError(t, err)
		defer z.Close()
		r = z
	}
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(out)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	for c, ext := range map[Compression]string{None: ".txt", Gzip: ".txt.gz", Zstd: ".txt.zst"} {
		t.Run(ext, func(t *testing.T) {
			t.Parallel()
			f, err := New(numbers(c))
			require.NoError(t, err)
			assert.Equal(t, ext, f.Ext())
			var out [2]bytes.Buffer
			var want [2]bytes.Buffer
			var files [2]interface {
				Append([]int32) error
				Size() int64
				Buffered() int64
				Flush() error
				Close() error
			}
			for i := range files {
				files[i], err = f.Create(&out[i])
				require.NoError(t, err)
				want[i].WriteString("n\n")
			}
			r := rand.New(rand.NewPCG(1, uint64(c)))
			for range 300 {
				rows := make([]int, r.IntN(3000))
				for i := range rows {
					rows[i] = r.Int()
				}
				require.Empty(t, f.Prepare(rows))
				picks := [2][]int32{}
				whole := r.IntN(3) == 0
				for i, n := range rows {
					k := r.IntN(10) / 9
					if whole {
						k = 0
					}
					picks[k] = append(picks[k], int32(i))
					fmt.Fprintln(&want[k], n)
				}
				if whole {
					require.NoError(t, files[0].Append(nil))
					continue
				}
				for k := range files {
					if len(picks[k]) > 0 {
						require.NoError(t, files[k].Append(picks[k]))
					}
					assert.LessOrEqual(t, files[k].Buffered(), int64(2*blockSize))
				}
				if r.IntN(20) == 0 {
					require.NoError(t, files[1].Flush())
					assert.Zero(t, files[1].Buffered(), "F8")
				}
			}
			for k := range files {
				size := files[k].Size()
				require.NoError(t, files[k].Close())
				assert.InEpsilon(t, out[k].Len(), size, 0.05, "Size is what Close makes, about")
				assert.Equal(t, want[k].String(), unpack(t, c, out[k].Bytes()))
			}
		})
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	f, err := New(numbers(None))
	require.NoError(t, err)
	refused := f.Prepare([]int{1, -1, 2, -2, -1})
	require.Len(t, refused, 3)
	assert.Equal(t, []int{1, 3, 4}, []int{refused[0].Row, refused[1].Row, refused[2].Row})
	require.EqualError(t, refused[0].Err, "refused")
	var p *engine.PanicError
	require.ErrorAs(t, refused[1].Err, &p, "A9")
	assert.NotEmpty(t, p.Stack)
	require.Empty(t, f.Prepare([]int{1, 2}))
	var b bytes.Buffer
	file, err := f.Create(&b)
	require.NoError(t, err)
	require.NoError(t, file.Append(nil))
	assert.Equal(t, "n\n1\n2\n", b.String())
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("broken") }

func TestWriteErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []Compression{None, Gzip, Zstd} {
		f, err := New(numbers(c))
		require.NoError(t, err)
		f.Prepare([]int{1})
		file, err := f.Create(broken{})
		if c == None {
			require.EqualError(t, err, "broken")
			continue
		}
		require.NoError(t, err)
		require.NoError(t, file.Append(nil))
		require.EqualError(t, file.Close(), "broken")
	}
}
