package memo

import (
	"context"
	"errors"
)

var errPanicked = errors.New("the load panicked")

func abandoned(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
