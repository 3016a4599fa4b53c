package main

import (
	"encoding/json"
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/stage"
)

// Evento is one message of the topic, and its validate tags are the contract. A field that must be
// there but may be zero, such as the user 0, is a pointer.
type Evento struct {
	EventID   string    `leat:"event_id" validate:"required"`
	TS        time.Time `leat:"ts" validate:"required"`
	UsuarioID *int64    `leat:"usuario_id" validate:"required"`
	Accion    string    `leat:"accion" validate:"required,oneof=click view purchase"`
	Monto     *float64  `leat:"monto" validate:"omitempty,gte=0"`

	// Fields that the schema does not know. The column has a name here that no field has, or a field of its
	// name would be taken for it.
	Otros map[string]json.RawMessage `leat:"(otros),extra"`
}

// Limpio is an event as the lake has it.
type Limpio struct {
	EventID   string    `leat:"event_id"`
	TS        time.Time `leat:"ts"`
	UsuarioID int64     `leat:"usuario_id"`
	Accion    string    `leat:"accion"`
	Monto     float64   `leat:"monto"` // 0 where there was none

	// ProcessingTS is when this program saw the event. It is the one column that is not a function of the
	// input: an event that is read again after a crash, before its file was committed, has another one (rule G12).
	ProcessingTS time.Time `leat:"processing_ts"`

	Otros map[string]json.RawMessage `leat:"otros,extra"`
}

// Names of stages; they key the saved state, so they must not change.
const (
	contract   = "contract"
	enrichment = "enrich"
	duplicates = "duplicates"
)

// memory says what is a duplicate and how long that is known.
type memory struct {
	ttl  time.Duration // in event time; 0 is for ever
	seen func(id string)
}

// eventos is the pipeline without its ends, so that main and the tests share it.
func eventos(c leat.Config, m memory, src leat.Source[Evento], sinks ...leat.Sink[Limpio]) *leat.Pipeline {
	once := &stage.Dedupe[Limpio, string]{Key: func(e *Limpio) string { return e.EventID }}
	if m.ttl > 0 {
		once.TTL, once.Time = m.ttl, func(e *Limpio) time.Time { return e.TS }
	}
	if m.seen != nil {
		once.OnDuplicate = func(e *Limpio) { m.seen(e.EventID) }
	}
	p := leat.New("eventos", c)
	rows := leat.From(p, src)
	good := leat.Via(rows, contract, stage.Validate[Evento]())
	rich := leat.Via(good, enrichment, stage.Map(enrich)) // before the stage with state: it runs in parallel
	leat.To(leat.Via(rich, duplicates, once), sinks...)
	return p
}

// enrich may take what it points to: the contract has made sure that it is there.
func enrich(e Evento) (Limpio, error) {
	l := Limpio{EventID: e.EventID, TS: e.TS, UsuarioID: *e.UsuarioID, Accion: e.Accion, ProcessingTS: time.Now(), Otros: e.Otros}
	if e.Monto != nil {
		l.Monto = *e.Monto
	}
	return l, nil
}

func when(e Limpio) time.Time { return e.TS }
