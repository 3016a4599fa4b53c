package parquetread

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// The codecs, with the format's numbers.
const (
	codecNone   = 0
	codecSnappy = 1
	codecGzip   = 2
	codecBrotli = 4
	codecZstd   = 6
	codecLZ4Raw = 7
)

var codecNames = map[int32]string{3: "LZO", 5: "LZ4 (the old one, in Hadoop's frames)"}

// unfold decompresses src to exactly n bytes, in memory of its own. It never makes more
// of it: n was checked against the limits, and src that holds another number is damage.
func unfold(codec int32, src []byte, n int) (dst []byte, err error) {
	defer func() {
		if v := recover(); v != nil { // a library's, on bytes it did not expect
			err = damagef("a page can't be decompressed: %v", v)
		}
	}()
	if n == 0 {
		return nil, nil
	}
	got := 0
	switch codec {
	case codecNone:
		if len(src) != n {
			return nil, damagef("a page of %d bytes, not compressed, claims to hold %d", len(src), n)
		}
		return src, nil
	case codecSnappy:
		if got, err = s2.DecodedLen(src); err == nil && got == n {
			dst = make([]byte, n)
			_, err = s2.Decode(dst, src)
		}
	case codecZstd:
		d := zstdDecoders.Get().(*zstd.Decoder)
		dst, err = d.DecodeAll(src, make([]byte, 0, n))
		zstdDecoders.Put(d)
		got = len(dst)
	case codecLZ4Raw:
		dst = make([]byte, n)
		got, err = lz4.UncompressBlock(src, dst)
	case codecGzip:
		z, _ := gzips.Get().(*gzip.Reader)
		if z == nil {
			z = new(gzip.Reader)
		}
		if err = z.Reset(bytes.NewReader(src)); err == nil {
			dst = make([]byte, n)
			got, err = readExactly(z, dst)
		}
		if err == nil && got == n {
			gzips.Put(z)
		}
	case codecBrotli:
		z := brotlis.Get().(*brotli.Reader)
		if err = z.Reset(bytes.NewReader(src)); err == nil {
			dst = make([]byte, n)
			got, err = readExactly(z, dst)
		}
		// Reset forgets neither all of a damaged page nor what is behind the end of one: the
		// next page would begin with it.
		if err == nil && got == n {
			brotlis.Put(z)
		}
	default:
		name := codecNames[codec]
		if name == "" {
			name = fmt.Sprintf("number %d", codec)
		}
		return nil, damagef("a page is compressed by %s, which is not supported", name)
	}
	if err != nil {
		return nil, damagef("a page can't be decompressed: %v", err)
	}
	if got != n {
		return nil, damagef("a page unfolds to another size than the %d bytes that its header claims", n)
	}
	return dst, nil
}

// readExactly fills dst and makes sure that nothing follows: got is one more then.
func readExactly(r io.Reader, dst []byte) (got int, err error) {
	if got, err = io.ReadFull(r, dst); err != nil {
		return got, err
	}
	var more [1]byte
	n, err := io.ReadFull(r, more[:])
	if err == io.EOF {
		err = nil
	}
	return got + n, err
}

var (
	gzips   sync.Pool
	brotlis = sync.Pool{New: func() any { return new(brotli.Reader) }}
)

var zstdDecoders = sync.Pool{New: func() any {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(err) // the options are constants
	}
	return d
}}
