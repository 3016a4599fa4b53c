// Package jsonrow is what sources of JSON rows share: files of JSON lines, Kafka's values,
// Watermill's payloads.
package jsonrow

import (
	"errors"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/row"
	"github.com/leatgo/leat/source/drift"
)

// deepest is what encoding/json reads.
const deepest = 10_000

// Policies are the fields of a source's Config that say how rows may differ from their type.
type Policies struct {
	Extra        drift.Extra
	Missing      drift.Missing
	RepeatedKeys drift.Repeated
	MaxDepth     int
}

// Rules are the decoder's.
func (p Policies) Rules() row.JSONRules {
	rules := row.JSONRules{MaxDepth: p.MaxDepth, Repeated: row.JSONRepeated(p.RepeatedKeys)}
	if p.Extra == drift.RefuseExtra {
		rules.Unknown = row.RefuseUnknown
	}
	switch p.Missing {
	case drift.RefuseMissing:
		rules.Missing = row.RefuseMissing
	case drift.ZeroMissing:
		rules.Missing = row.ZeroMissing
	}
	return rules
}

// Faults reports what there is no such policy for.
func (p Policies) Faults(fault func(format string, args ...any)) {
	if p.Extra > drift.RefuseExtra {
		fault("Extra %d: there are drift.IgnoreExtra and drift.RefuseExtra", p.Extra)
	}
	if p.Missing > drift.ZeroMissing {
		fault("Missing %d: there are drift.RefuseMissing, drift.NullMissing and drift.ZeroMissing", p.Missing)
	}
	if p.RepeatedKeys > drift.FirstRepeated {
		fault("RepeatedKeys %d: there are drift.RefuseRepeated, drift.LastRepeated and drift.FirstRepeated", p.RepeatedKeys)
	}
	if p.MaxDepth < 0 || p.MaxDepth > deepest {
		fault("MaxDepth %d: it must be 1 to %d, or 0 for the default", p.MaxDepth, deepest)
	}
}

// FieldError makes an error of package row one that users can take apart.
func FieldError(err error) error {
	if e, is := errors.AsType[*row.JSONError](err); is {
		return &leat.FieldError{Column: e.Column, Rule: e.Rule(), Msg: e.Error()}
	}
	if e, is := errors.AsType[*row.Error](err); is {
		return &leat.FieldError{Column: e.Column, Rule: e.Rule(), Msg: e.Error()}
	}
	return err
}
