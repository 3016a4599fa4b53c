package metrics

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"

	"github.com/leatgo/leat"
)

// Handler serves three pages:
//
//	/metrics       for Prometheus: its text format or OpenMetrics, as it asks for
//	/metrics.json  the same as one JSON object, for scripts and people
//	/healthz       200 or 503, and one line per pipeline
//
// /metrics has nothing but the metrics of this package. For those of Go and of the
// process too, register [Metrics.Collector] beside theirs in a registry of your own.
//
// /healthz answers 503 when no pipeline is watched, or one has not begun, has ended with
// an error, or is stuck: something has waited to be committed for longer than
// Config.Patience. One that has nothing to read, or has ended cleanly, is well. The reason
// of an error is in the log, not here: errors may quote rows.
func (m *Metrics) Handler() http.Handler {
	own := prometheus.NewRegistry()
	own.MustRegister(m.Collector())
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(own, promhttp.HandlerOpts{EnableOpenMetrics: true}))
	mux.HandleFunc("GET /metrics.json", m.serveJSON)
	mux.HandleFunc("GET /healthz", m.serveHealth)
	return mux
}

func (m *Metrics) serveHealth(w http.ResponseWriter, _ *http.Request) {
	m.mu.Lock()
	views := m.read()
	m.mu.Unlock()
	now := time.Now()
	well := len(views) > 0
	var text strings.Builder
	for _, v := range views {
		state, fine := v.health(now, m.c.Patience)
		well = well && fine
		fmt.Fprintf(&text, "%s: %s\n", v.name, state)
	}
	if len(views) == 0 {
		text.WriteString("no pipeline is watched\n")
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	if !well {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_, _ = w.Write([]byte(text.String()))
}

// health says how a pipeline is, and whether that is well.
func (v *view) health(now time.Time, patience time.Duration) (state string, well bool) {
	switch waits := now.Sub(v.uncommitted); {
	case v.up > 0 && !v.uncommitted.IsZero() && patience >= 0 && waits > patience:
		return fmt.Sprintf("stuck: nothing could be committed for %v; the log has the reason", waits.Round(time.Second)), false
	case v.up > 0:
		return "ok", true
	case v.lastFailed:
		return "stopped with an error; the log has it", false
	case v.ran:
		return "ok: ended, all that was read is committed", true
	}
	return "not started", false
}

// page is /metrics.json. Times are RFC 3339; a time or duration that is not known is
// missing.
type page struct {
	Time      time.Time      `json:"time"`
	Pipelines []pipelineJSON `json:"pipelines"`
}

type pipelineJSON struct {
	Pipeline string           `json:"pipeline"`
	Up       int              `json:"up"`
	Well     bool             `json:"well"`   // as /healthz says
	Health   string           `json:"health"` // the same in words
	Started  time.Time        `json:"started,omitzero"`
	Stops    map[string]int64 `json:"stops"` // by outcome
	Rewinds  int64            `json:"rewinds"`

	Checkpoint  checkpointJSON `json:"checkpoint"`
	Uncommitted float64        `json:"uncommitted_seconds"`
	InFlight    struct {
		Bytes   int64 `json:"bytes"`
		Batches int   `json:"batches"`
	} `json:"in_flight"`

	Nodes       []nodeJSON               `json:"nodes"`
	Rejected    []reasonJSON             `json:"rejected"`
	DeadLetters map[string]int64         `json:"dead_letters"` // by class
	Retries     map[string]int64         `json:"retries"`      // by node
	Lag         map[string]int64         `json:"lag"`          // by partition
	State       map[string]stateSizeJSON `json:"state"`        // by stage
}

type checkpointJSON struct {
	Number    uint64    `json:"number"`
	Completed time.Time `json:"completed,omitzero"`
	Age       *float64  `json:"age_seconds,omitempty"`
	Took      *timeJSON `json:"took,omitempty"`
}

type nodeJSON struct {
	Node     string    `json:"node"`
	Kind     string    `json:"kind"`
	In       int64     `json:"in"`
	Out      int64     `json:"out"`
	Rejected int64     `json:"rejected"`
	Filtered int64     `json:"filtered"`
	Added    int64     `json:"added"`
	Batches  *int64    `json:"batches,omitempty"` // of a source
	Write    *timeJSON `json:"write,omitempty"`   // of a sink
	Commit   *timeJSON `json:"commit,omitempty"`
}

type reasonJSON struct {
	Class  string `json:"class"`
	Column string `json:"column"`
	Rule   string `json:"rule"`
	Rows   int64  `json:"rows"`
}

type stateSizeJSON struct {
	Keys  int64 `json:"keys"`
	Bytes int64 `json:"bytes"`
}

// timeJSON is a histogram: how often, and how long in all.
type timeJSON struct {
	Count   uint64  `json:"count"`
	Seconds float64 `json:"seconds"`
}

func (m *Metrics) serveJSON(w http.ResponseWriter, _ *http.Request) {
	text, err := json.MarshalIndent(m.page(), "", "  ")
	if err != nil {
		http.Error(w, "metrics: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write(append(text, '\n'))
}

func (m *Metrics) page() page {
	m.mu.Lock()
	views := m.read()
	m.mu.Unlock()
	out := page{Time: time.Now().UTC(), Pipelines: []pipelineJSON{}}
	for _, v := range views {
		out.Pipelines = append(out.Pipelines, m.pipelineJSON(v, out.Time))
	}
	return out
}

func (m *Metrics) pipelineJSON(v *view, now time.Time) pipelineJSON {
	p := pipelineJSON{
		Pipeline: v.name, Up: v.up, Started: v.started.UTC(),
		Stops: map[string]int64{"ok": v.ok, "failed": v.failed}, Rewinds: v.rewinds,
		Checkpoint:  checkpointJSON{Number: v.committed, Completed: v.checkpointed.UTC()},
		Uncommitted: micros(since(v.uncommitted, now)),
		Nodes:       []nodeJSON{}, Rejected: []reasonJSON{}, DeadLetters: v.letters,
		Retries: map[string]int64{}, Lag: v.lag, State: map[string]stateSizeJSON{},
	}
	p.Health, p.Well = v.health(now, m.c.Patience)
	p.InFlight.Bytes, p.InFlight.Batches = v.inFlight, v.batches
	if v.up > 0 {
		age := micros(v.age(now))
		p.Checkpoint.Age = &age
	}
	for _, at := range v.names {
		t := v.nodes[at]
		p.Nodes = append(p.Nodes, nodeJSON{Node: at.name, Kind: at.kind,
			In: t.in, Out: t.out, Rejected: t.rejected, Filtered: t.filtered, Added: t.added})
	}
	for _, why := range v.reasons() {
		p.Rejected = append(p.Rejected, reasonJSON{why.class, why.column, why.rule, v.rejected[why]})
	}
	for stage, size := range v.state {
		p.State[stage] = stateSizeJSON{size.Keys, size.Bytes}
	}
	m.addEvents(&p)
	return p
}

// micros rounds seconds to what people can read.
func micros(seconds float64) float64 { return math.Round(seconds*1e6) / 1e6 }

// addEvents adds what Observe has counted.
func (m *Metrics) addEvents(p *pipelineJSON) {
	all := m.series.Load()
	if all == nil {
		return
	}
	for _, s := range *all {
		if label(s.pipeline) != p.Pipeline {
			continue
		}
		var got dto.Metric
		if s.counter != nil {
			_ = s.counter.Write(&got) // never fails
		} else {
			_ = s.histogram.Write(&got)
		}
		count := int64(got.GetCounter().GetValue())
		took := &timeJSON{got.GetHistogram().GetSampleCount(), micros(got.GetHistogram().GetSampleSum())}
		switch s.kind {
		case leat.EventRetry:
			p.Retries[label(s.node)] = count
			continue
		case leat.EventCheckpoint:
			p.Checkpoint.Took = took
			continue
		}
		for i := range p.Nodes {
			n := &p.Nodes[i]
			if n.Node != label(s.node) {
				continue
			}
			switch s.kind {
			case leat.EventBatch:
				n.Batches = &count
			case leat.EventWrite:
				n.Write = took
			case leat.EventCommit:
				n.Commit = took
			}
		}
	}
}
