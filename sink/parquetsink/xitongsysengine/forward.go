package xitongsysengine

import (
	"errors"
	"io"

	"github.com/xitongsys/parquet-go/source"
)

// forward is a file as the library wants one, of a writer that only goes
// forward: github.com/xitongsys/parquet-go-source is not needed for that.
type forward struct{ io.Writer }

var errForward = errors.New("xitongsysengine: the file is written from start to end, and not read")

func (forward) Read([]byte) (int, error)                  { return 0, errForward }
func (forward) Seek(int64, int) (int64, error)            { return 0, errForward }
func (forward) Open(string) (source.ParquetFile, error)   { return nil, errForward }
func (forward) Create(string) (source.ParquetFile, error) { return nil, errForward }

// Close leaves the writer to whom it belongs.
func (forward) Close() error { return nil }
