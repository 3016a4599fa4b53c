package jsonsource

import (
	"errors"
	"sync"

	"github.com/leatgo/leat/internal/filesource"
)

// Source reads files of JSON lines. It implements leat.Source, leat.Named,
// leat.Validator, leat.Replayer, leat.FileRejecter, leat.LetterDecoder and io.Closer;
// Stats counts its files.
type Source[T any] struct {
	filesource.Source[T]
	config Config[T]
	lines  func() (*lines, error)
}

// New makes a source. It does no I/O and can't fail; Validate tells what is wrong.
func New[T any](c Config[T]) *Source[T] {
	compiled := sync.OnceValues(c.lines)
	return &Source[T]{
		Source: filesource.New(c.files(), func() (filesource.Format[T], error) {
			l, err := compiled()
			if err != nil {
				return nil, err
			}
			return newFormat[T](l, c.chunkBytes()), nil
		}),
		config: c, lines: compiled,
	}
}

// Validate implements leat.Validator.
func (s *Source[T]) Validate() error {
	return errors.Join(append(s.Faults(), s.config.faults()...)...)
}
