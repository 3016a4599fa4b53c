package own_test

import (
	"fmt"
	"reflect"
	"testing"

	"example.com/downstream/own"
	"github.com/leatgo/leat/leattest"
)

func TestBalances(t *testing.T) {
	for name, tc := range map[string]struct {
		moves   []own.Move
		want    []own.Balance
		rejects []string // the number of the move, and why
	}{
		"in and out": {
			moves: []own.Move{{"ana", 500}, {"ana", -200}},
			want:  []own.Balance{{"ana", 500, 500}, {"ana", -200, 300}},
		},
		"accounts are apart": {
			moves: []own.Move{{"ana", 500}, {"leo", 100}, {"ana", 1}},
			want:  []own.Balance{{"ana", 500, 500}, {"leo", 100, 100}, {"ana", 1, 501}},
		},
		"an overdraft is rejected, and changes nothing": {
			moves:   []own.Move{{"ana", 500}, {"ana", -501}, {"ana", -500}},
			want:    []own.Balance{{"ana", 500, 500}, {"ana", -500, 0}},
			rejects: []string{"1 Transform/cents/overdrawn"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := leattest.Stage(t, own.NewBalances(), tc.moves...)
			if !reflect.DeepEqual(got.Rows, tc.want) {
				t.Errorf("got %v, want %v", got.Rows, tc.want)
			}
			if fmt.Sprint(got.Rejected()) != fmt.Sprint(tc.rejects) {
				t.Errorf("rejected %v, want %v", got.Rejected(), tc.rejects)
			}
		})
	}
}

// However the rows are cut into batches, whatever crashes: the same balances.
func TestBalancesIsAStage(t *testing.T) {
	var moves []own.Move
	for i := range 60 {
		moves = append(moves, own.Move{Account: fmt.Sprint("account ", i%4), Cents: int64(i*37%100 - 30)})
	}
	leattest.TestStage(t, own.NewBalances, moves...)
}
