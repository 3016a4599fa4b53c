package own

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/leatgo/leat"
)

// Move is money that comes to an account or leaves it, in cents.
type Move struct {
	Account string
	Cents   int64
}

// Balance is a Move with what the account then holds.
type Balance struct {
	Account string
	Cents   int64
	Holds   int64
}

// Balances is a stage with state: it keeps what each account holds, and rejects a move
// that would overdraw one.
type Balances struct {
	mu    sync.Mutex
	parts map[string]*accounts
}

// accounts is the state of one partition.
type accounts struct {
	holds   map[string]int64
	changed map[string]int64 // since the last Delta
}

// NewBalances makes the stage.
func NewBalances() *Balances { return &Balances{parts: map[string]*accounts{}} }

func (s *Balances) of(partition string) *accounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.parts[partition]
}

// Process implements leat.Stage.
func (s *Balances) Process(_ context.Context, in *leat.Batch[Move], out *leat.Batch[Balance]) error {
	a := s.of(in.Partition())
	for i, m := range in.Rows() {
		holds := a.holds[m.Account] + m.Cents
		if holds < 0 {
			out.Reject(i, leat.Transform, &leat.FieldError{Column: "cents", Rule: "overdrawn",
				Msg: fmt.Sprintf("account %s holds %d cents less than that", m.Account, -holds)})
			continue
		}
		a.holds[m.Account], a.changed[m.Account] = holds, holds
		out.Append(Balance{m.Account, m.Cents, holds}, i)
	}
	return nil
}

// Restore implements leat.Stateful.
func (s *Balances) Restore(partition string, saved [][]byte) error {
	a := &accounts{holds: map[string]int64{}, changed: map[string]int64{}}
	var faults []error
	for _, piece := range saved {
		faults = append(faults, json.Unmarshal(piece, &a.holds)) // later pieces win
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.parts[partition] = a
	return errors.Join(faults...)
}

// Delta implements leat.Stateful.
func (s *Balances) Delta(partition string) ([]byte, error) {
	a := s.of(partition)
	if len(a.changed) == 0 {
		return nil, nil
	}
	changed := maps.Clone(a.changed)
	clear(a.changed)
	return json.Marshal(changed)
}

// Snapshot implements leat.Stateful.
func (s *Balances) Snapshot(partition string) ([]byte, error) {
	a := s.of(partition)
	clear(a.changed)
	return json.Marshal(a.holds)
}
