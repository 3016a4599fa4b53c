package jsonsource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/csvtext"
	"github.com/leatgo/leat/internal/row"
)

// seen is all that a reading gives of one record.
type seen struct {
	row    rec
	err    string
	offset int64
	line   int64
	raw    string
}

// plainly reads a text in the plainest way: line by line, each decoded by itself.
func plainly(t testing.TB, c Config[rec], text []byte) (out []seen) {
	t.Helper()
	l, err := c.lines()
	require.NoError(t, err)
	at := int64(0)
	if bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) {
		at, text = 3, text[3:]
	}
	for n := int64(1); len(text) > 0; n++ {
		line, rest, found := bytes.Cut(text, []byte("\n"))
		size := len(line)
		if found {
			size++
		}
		bare := bytes.TrimSuffix(line, []byte("\r"))
		s := seen{offset: 1000 + at, line: n, raw: string(bare)}
		switch {
		case len(bare) == 0:
		case size > l.dialect.MaxRecord:
			s.raw = string(text[:min(csvtext.KeepOfLong, l.dialect.MaxRecord)])
			s.err = fmt.Sprintf("line %d: the record has %d bytes, more than the limit of %d; only its first %d bytes are kept", n, size, l.dialect.MaxRecord, len(s.raw))
			out = append(out, s)
		default:
			d := l.plan.Decoder()
			if err := d.Text(line, unsafe.Pointer(&s.row)); err != nil {
				e, is := errors.AsType[*row.JSONError](err)
				require.True(t, is)
				s.row, s.err = rec{}, e.Error()
			} else {
				s.row.File, s.row.Line, s.row.Offset = "f.jsonl", n, s.offset
			}
			d.Release()
			out = append(out, s)
		}
		at += int64(size)
		text = rest
	}
	return out
}

func inChunks(t testing.TB, c Config[rec], text []byte) (out []seen) {
	t.Helper()
	for _, ch := range pieces(t, c, string(text)) {
		batch := new(leat.Batch[rec])
		errs := map[int]string{}
		n, _, err := ch.Decode(context.Background(), batch, func(i int, err error) { errs[i] = err.Error() })
		require.NoError(t, err)
		require.LessOrEqual(t, batch.Len(), ch.room())
		numbers := make([]int, n)
		for i := range numbers {
			numbers[i] = i
		}
		rows := batch.Rows()
		for i, o := range ch.Locate(numbers) {
			require.Equal(t, "f.jsonl", o.File)
			require.Equal(t, time.Unix(5, 0), o.Time)
			s := seen{err: errs[i], offset: o.Offset, line: o.Line, raw: string(o.Raw)}
			if s.err == "" {
				s.row, rows = rows[0], rows[1:]
			}
			out = append(out, s)
		}
		require.Empty(t, rows)
		ch.Release()
	}
	return out
}

// FuzzLines: a text gives the same records, at the same offsets and lines, however it is
// cut into chunks, and whatever is in it (rule D6).
func FuzzLines(f *testing.F) {
	for i := range 6 {
		f.Add([]byte(randomJSON(rand.New(rand.NewPCG(uint64(i), 1)), i, 8)), uint16(40*i), uint16(0))
	}
	for _, s := range []string{"", "\r", "\n", "\r\n", "{}\r", "{}\r\r\n", "\xef\xbb\xbf", "\xef\xbb\xbf\n{}", "\n\xef\xbb\xbf{}", "{\"id\":1,\n\"text\":\"\"}\n", "{\"id\":1,\"text\":\"\n\"}", " \n\t\n",
		"{\"id\":1,\"text\":\"a\"}\n\r{\"id\":2,\"text\":\"b\"}", "{\"id\":1,\"text\":\"a\\", "\x00\n\xff\n[\n{\n"} {
		f.Add([]byte(s), uint16(1), uint16(0))
		f.Add([]byte(s+"\n"+`{"id":7,"text":"the line behind"}`), uint16(9), uint16(20))
	}
	f.Fuzz(func(t *testing.T, text []byte, size, most uint16) {
		c := Config[rec]{ChunkBytes: int(size) + 1, MaxRecord: int(most)}
		want := plainly(t, c, text)
		require.Equal(t, want, inChunks(t, c, text), "%q", text)
		c.ChunkBytes = 1 << 20
		require.Equal(t, want, inChunks(t, c, text), "%q", text)
	})
}
