package parquetsource

import (
	"errors"

	"github.com/leatgo/leat/internal/filesource"
)

// Source reads Parquet files. It implements leat.Source, leat.Named, leat.Validator,
// leat.Replayer, leat.FileRejecter, leat.LetterDecoder and io.Closer; Stats counts its
// files.
type Source[T any] struct {
	filesource.Source[T]
	config Config[T]
}

// New makes a source. It does no I/O and can't fail; Validate tells what is wrong.
func New[T any](c Config[T]) *Source[T] {
	return &Source[T]{
		Source: filesource.New(c.files(), func() (filesource.Format[T], error) { return newFormat(&c) }),
		config: c,
	}
}

// Validate implements leat.Validator.
func (s *Source[T]) Validate() error {
	return errors.Join(append(s.Faults(), s.config.faults()...)...)
}
