package transcode

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/unicode"
)

var all = []Encoding{UTF16LE, UTF16BE, Latin1, Windows1252}

func peer(e Encoding) encoding.Encoding {
	switch e {
	case UTF16LE:
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM)
	case UTF16BE:
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM)
	case Latin1:
		return charmap.ISO8859_1
	}
	return charmap.Windows1252
}

// oneReplacement makes what is undecodable what x/text makes of it.
func oneReplacement(e Encoding, text []byte) []byte {
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRune(text)
		if r == utf8.RuneError && size == 1 && (e == UTF16LE || e == UTF16BE) {
			// x/text makes one replacement of two second halves in a row.
			size = 3
			if len(text) >= 6 && text[0] == 0xed && text[1] >= 0xb0 && text[3] == 0xed && text[4] >= 0xb0 {
				size = 6
			}
		}
		out, text = utf8.AppendRune(out, r), text[size:]
	}
	return out
}

// check decodes src in all ways.
func check(t testing.TB, e Encoding, src []byte, sizes ...int) {
	t.Helper()
	want := e.Decode(nil, src)
	require.LessOrEqual(t, len(want), Growth*len(src))
	require.Equal(t, src, e.Encode([]byte{}, want), "the bytes it was made from")

	theirs, err := peer(e).NewDecoder().Bytes(src)
	require.NoError(t, err)
	require.Equal(t, string(theirs), string(oneReplacement(e, want)), "as x/text has it: %x", src)
	if utf8.Valid(want) {
		require.Equal(t, string(theirs), string(want))
	}

	for _, size := range append(sizes, 1, 2, 3, 4, 7, 5000) {
		for _, in := range []io.Reader{bytes.NewReader(src), iotest.OneByteReader(bytes.NewReader(src)), iotest.DataErrReader(bytes.NewReader(src))} {
			r := e.Reader(in)
			var got []byte
			p := make([]byte, size)
			for {
				n, err := r.Read(p)
				got = append(got, p[:n]...)
				if err == io.EOF {
					break
				}
				require.NoError(t, err)
			}
			require.Equal(t, string(want), string(got), "%d bytes at a time of %x", size, src)
		}
	}
	// Any part between characters gives its own bytes.
	for cut := 0; cut < len(src) && cut < 40; cut++ {
		head := e.Decode(nil, src[:cut])
		if bytes.HasPrefix(want, head) && bytes.Equal(want[len(head):], e.Decode(nil, src[cut:])) {
			require.Equal(t, append([]byte{}, src[cut:]...), e.Encode([]byte{}, want[len(head):]))
		}
	}
}

func TestEveryByte(t *testing.T) {
	t.Parallel()
	undefined := 0
	for b := range 256 {
		for _, e := range all {
			check(t, e, []byte{byte(b)})
			check(t, e, []byte{'a', byte(b), 'b'})
		}
		text := Windows1252.Decode(nil, []byte{byte(b)})
		require.Equal(t, Windows1252.Defined(byte(b)), utf8.Valid(text), "%x", b)
		if !utf8.Valid(text) {
			undefined++
		}
		require.True(t, utf8.Valid(Latin1.Decode(nil, []byte{byte(b)})))
	}
	require.Equal(t, 5, undefined)
}

func TestEveryUnit(t *testing.T) {
	t.Parallel()
	var src []byte
	for u := range 1 << 16 {
		src = UTF16LE.append16(src, uint16(u))
		src = UTF16LE.append16(src, 'x')
	}
	text := UTF16LE.Decode(nil, src)
	require.Equal(t, src, UTF16LE.Encode(nil, text))
	bad := 0
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			require.Equal(t, byte(0xed), text[i])
			bad, size = bad+1, 3
		}
		i += size
	}
	require.Equal(t, 2048, bad, "the surrogates, and U+FFFD is a character")
}

func TestUTF16(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ src, want string }{
		{"a\x00\n\x00", "a\n"},
		{"\xff\xfea\x00", "\ufeffa"},
		{"\x3d\xd8\x00\xde", "😀"},
		{"\x3d\xd8", "\xed\xa0\xbd"},
		{"\x3d\xd8a\x00", "\xed\xa0\xbda"},
		{"\x00\xde\x3d\xd8", "\xed\xb8\x80\xed\xa0\xbd"},
		{"\xfd\xff", "\ufffd"},
		{"a\x00\n", "a\xff\x80\x8a"},
		{"", ""},
	} {
		require.Equal(t, tc.want, string(UTF16LE.Decode(nil, []byte(tc.src))), "%x", tc.src)
		check(t, UTF16LE, []byte(tc.src))
	}
}

// What comes before an error is given first.
func TestErrors(t *testing.T) {
	t.Parallel()
	for _, e := range all {
		src := e.Encode(nil, []byte("añb"))
		text, err := io.ReadAll(e.Reader(io.MultiReader(bytes.NewReader(src), iotest.ErrReader(io.ErrClosedPipe))))
		require.ErrorIs(t, err, io.ErrClosedPipe)
		require.Equal(t, "añb", string(text))
	}
	text, err := io.ReadAll(UTF16LE.Reader(io.MultiReader(bytes.NewReader([]byte("a\x00b")), iotest.ErrReader(io.ErrClosedPipe))))
	require.ErrorIs(t, err, io.ErrClosedPipe)
	require.Equal(t, "a", string(text), "half a character is none yet")
	require.Equal(t, bytes.NewReader(nil), UTF8.Reader(bytes.NewReader(nil)))
}

func randomBytes(r *rand.Rand) []byte {
	out := make([]byte, r.IntN(60))
	for i := range out {
		out[i] = []byte{byte(r.IntN(256)), byte(0xd8 + r.IntN(8)), 'a', '\n', 0, byte(0x80 + r.IntN(32))}[r.IntN(6)]
	}
	return out
}

func TestRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 1))
		check(t, all[seed%4], randomBytes(r), 1+r.IntN(50))
	}
	// More than the buffer.
	r := rand.New(rand.NewPCG(1, 2))
	var src []byte
	for len(src) < 100_000 {
		src = append(src, randomBytes(r)...)
	}
	for _, e := range all {
		want := e.Decode(nil, src)
		got, err := io.ReadAll(e.Reader(bytes.NewReader(src)))
		require.NoError(t, err)
		require.True(t, bytes.Equal(want, got))
	}
}

func FuzzTranscode(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(randomBytes(rand.New(rand.NewPCG(seed, 3))), uint8(seed), uint8(seed))
	}
	f.Fuzz(func(t *testing.T, src []byte, kind, size uint8) {
		check(t, all[kind%4], src, 1+int(size))
	})
}

func BenchmarkReader(b *testing.B) {
	text := bytes.Repeat([]byte("12345,5791,978,3,101.75,305.25,2025-01-03 14:20:40,café,pendiente\n"), 7000)
	for name, e := range map[string]Encoding{"utf16": UTF16LE, "latin1": Latin1, "windows1252": Windows1252} {
		src := e.Encode(nil, text)
		b.Run(name, func(b *testing.B) {
			p := make([]byte, 64<<10)
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				r := e.Reader(bytes.NewReader(src))
				for {
					if _, err := r.Read(p); err != nil {
						break
					}
				}
			}
		})
	}
}
