package leat_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
)

type double struct{}

func (double) Process(_ context.Context, in *leat.Batch[int], out *leat.Batch[string]) error {
	for i, r := range in.Rows() {
		if r%10 == 3 {
			out.Reject(i, leat.Transform, errors.New("three"))
			continue
		}
		out.Append(strconv.Itoa(2*r), i)
	}
	return nil
}

func TestSmoke(t *testing.T) {
	rows := make([]int, 10000)
	for i := range rows {
		rows[i] = i
	}
	src, sink := leattest.Rows(rows...), leattest.Collect[string]()
	p := leat.New("smoke", leat.Config{StateDir: t.TempDir()})
	leat.To(leat.Via(leat.From(p, src), "double", leat.Stage[int, string](double{})), sink)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, p.Run(ctx))
	require.Len(t, sink.Committed(), 9000)
	for i, r := range sink.Committed() {
		_ = i
		_ = r
	}
	fmt.Printf("%+v\n", p.Stats())
}
