package leattest

import (
	"testing"

	"github.com/leatgo/leat"
)

// Result is what a stage made of rows.
type Result[Out any] struct {
	Rows     []Out
	From     []int    // for each of Rows: the number of the row it was made from
	Rejects  []Reject // Offset is the number of the row; in order
	Filtered int      // rows that are neither
}

// Rejected lists the rejects as their Strings, such as "3 Contract/total/gt".
func (r Result[Out]) Rejected() []string { return Report{Rejects: r.Rejects}.Rejected() }

// Stage runs rows through one stage, as one batch of one partition, by the real engine in
// virtual time: a panic rejects the row (rule A9), an error of the whole batch is pinned
// on the row at fault by halving (rule B5), what is transient is tried again. For a stage
// that keeps state, the rows are its first.
//
// It fails the test where a pipeline would stop.
func Stage[In, Out any](t *testing.T, st leat.Stage[In, Out], rows ...In) Result[Out] {
	t.Helper()
	return StageWith(t, Runner{}, st, rows...)
}

// StageWith is Stage with a Runner of its own: in real time, say, for a stage that calls
// a server.
func StageWith[In, Out any](t *testing.T, r Runner, st leat.Stage[In, Out], rows ...In) Result[Out] {
	t.Helper()
	sink := Collect[Out]()
	p := leat.New("stage", leat.Config{DeadLetters: &memLetters{}, Breaker: leat.Breaker{Share: -1}})
	leat.To(leat.Via(leat.From(p, Rows(rows...).Batches(max(len(rows), 1))), "stage", st), sink)
	report := r.Run(t, p)
	out := Result[Out]{Rows: sink.Committed(), Rejects: report.Rejects, Filtered: int(report.Node("stage").Filtered)}
	for _, at := range sink.Origins() {
		out.From = append(out.From, int(at.Offset))
	}
	return out
}
