package metrics

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leatgo/leat"
)

// Config is how pipelines are judged. The zero value is safe.
type Config struct {
	// Patience is how long something that was read may wait to be committed, or a
	// pipeline try to open its sinks, before /healthz says that it is stuck. A sink that
	// answers "not yet", such as a lake, makes rows wait as long as its files are open.
	// Defaults to 5 min; negative is for ever.
	Patience time.Duration
}

// Metrics measures pipelines. Its methods are safe for concurrent use.
type Metrics struct {
	c Config
	events

	mu      sync.Mutex
	watched []*watched
	ended   map[string]*ended // by name of the pipeline
}

// New prepares metrics. Give [Metrics.Observe] to leat.Config.Observe of each pipeline,
// and each pipeline to [Metrics.Watch] once it is built: what is counted per batch comes
// through the one, all else through the other.
func New(c Config) *Metrics {
	if c.Patience == 0 {
		c.Patience = 5 * time.Minute
	}
	m := &Metrics{c: c, ended: map[string]*ended{}}
	m.events.init()
	return m
}

// Watch adds a pipeline, before or while it runs. When it has ended its counts stay and
// it is let go; one of the same name goes on from them, so a program that builds its
// pipeline anew for each pass has counters that only grow. Of pipelines of one name that
// run at the same time, the sum is shown.
func (m *Metrics) Watch(p *leat.Pipeline) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.read() // lets go of those that have ended
	if !slices.ContainsFunc(m.watched, func(w *watched) bool { return w.p == p }) {
		m.watched = append(m.watched, &watched{p: p, counts: newCounts()})
	}
}

// Collector is for a registry of the program's own. Nothing is ever registered in
// Prometheus' global one.
func (m *Metrics) Collector() prometheus.Collector { return collector{m} }

// events are the metrics that Observe feeds.
type events struct {
	batches, retries          *prometheus.CounterVec
	write, commit, checkpoint *prometheus.HistogramVec

	// series finds the metric of an event without a lock: Observe is called per batch. They are few,
	// and their names are the same strings each time: looking through them costs less than hashing.
	series atomic.Pointer[[]series]
	adding sync.Mutex
}

type seriesKey struct{ kind, pipeline, node string }

// series is one metric; exactly one of the two is set.
type series struct {
	seriesKey
	counter   prometheus.Counter
	histogram prometheus.Histogram
}

func (e *events) init() {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"pipeline", "node"})
	}
	histogram := func(name, help string, labels []string, buckets ...float64) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	node := []string{"pipeline", "node"}
	e.batches = counter("leat_batches_total", "Batches that left the stages, by source; those that came again after a rewind included.")
	e.retries = counter("leat_retries_total", "Failures after which a step was tried again, by node.")
	e.write = histogram("leat_sink_write_duration_seconds", "Time a sink took for one batch, retries included.", node,
		.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)
	e.commit = histogram("leat_sink_commit_duration_seconds", "Time a sink took for a commit, retries included.", node,
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60)
	e.checkpoint = histogram("leat_checkpoint_duration_seconds", "Time from the barrier of a checkpoint until it was complete in every sink and in the state folder.", []string{"pipeline"},
		.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300)
}

// Observe is for leat.Config.Observe. It takes about as long as looking at the clock
// twice, per batch. Beside another observer:
//
//	Observe: func(e leat.Event) { people.Observe(e); m.Observe(e) }
func (m *Metrics) Observe(e leat.Event) {
	switch e.Kind {
	case leat.EventBatch, leat.EventRetry:
		m.find(e).counter.Inc()
	case leat.EventWrite, leat.EventCommit, leat.EventCheckpoint:
		m.find(e).histogram.Observe(e.Duration.Seconds())
	}
}

func (m *Metrics) find(e leat.Event) *series {
	key := seriesKey{e.Kind, e.Pipeline, e.Node}
	if s := m.known(key); s != nil {
		return s
	}
	return m.add(key)
}

func (m *Metrics) known(key seriesKey) *series {
	all := m.series.Load()
	if all == nil {
		return nil
	}
	for i := range *all {
		if s := &(*all)[i]; s.node == key.node && s.kind == key.kind && s.pipeline == key.pipeline {
			return s
		}
	}
	return nil
}

// add makes a series, and a new list: readers take no lock.
func (m *Metrics) add(key seriesKey) *series {
	m.adding.Lock()
	defer m.adding.Unlock()
	if s := m.known(key); s != nil {
		return s
	}
	var all []series
	if old := m.series.Load(); old != nil {
		all = slices.Clone(*old)
	}
	pipeline, node := label(key.pipeline), label(key.node)
	s := series{seriesKey: key}
	switch key.kind {
	case leat.EventBatch:
		s.counter = m.batches.WithLabelValues(pipeline, node)
	case leat.EventRetry:
		s.counter = m.retries.WithLabelValues(pipeline, node)
	case leat.EventWrite:
		s.histogram = m.write.WithLabelValues(pipeline, node).(prometheus.Histogram)
	case leat.EventCommit:
		s.histogram = m.commit.WithLabelValues(pipeline, node).(prometheus.Histogram)
	case leat.EventCheckpoint:
		s.histogram = m.checkpoint.WithLabelValues(pipeline).(prometheus.Histogram)
	}
	all = append(all, s)
	m.series.Store(&all)
	return &all[len(all)-1]
}
