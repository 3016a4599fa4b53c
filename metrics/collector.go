package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/leatgo/leat"
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"pipeline"}, labels...), nil)
}

var (
	upDesc       = desc("leat_up", "1 while the pipeline runs, 0 before and after; of several pipelines of one name, how many run.")
	stopsDesc    = desc("leat_stops_total", "Runs that have ended, by outcome (ok, failed).", "outcome")
	rewindsDesc  = desc("leat_rewinds_total", "Times the pipeline went back to its last checkpoint.")
	rowsDesc     = desc("leat_rows_total", "Rows of each node by outcome (in, out, rejected, filtered, added); in + added = out + rejected + filtered.", "node", "kind", "outcome")
	rejectedDesc = desc("leat_rejected_rows_total", "Rejected rows by reason.", "class", "column", "rule")
	lettersDesc  = desc("leat_dead_letters_total", "Rejected rows that are kept in the dead letters, by class.", "class")
	lagDesc      = desc("leat_lag_records", "Records of a partition that are not read yet, as far as its source knows.", "partition")
	bytesDesc    = desc("leat_in_flight_bytes", "Estimated bytes between sources and sinks; Config.BudgetBytes bounds them.")
	batchesDesc  = desc("leat_in_flight_batches", "Batches between sources and sinks; Config.BudgetBatches bounds them.")
	lastDesc     = desc("leat_last_checkpoint_timestamp_seconds", "When the last checkpoint was complete; missing before the first.")
	ageDesc      = desc("leat_checkpoint_age_seconds", "Time since the last complete checkpoint, or since the start before the first. It grows while there is nothing to read; see leat_uncommitted_seconds.")
	waitDesc     = desc("leat_uncommitted_seconds", "How long something that was read has been waiting to be committed, or the sinks to be opened; 0 while nothing waits.")
	keysDesc     = desc("leat_state_keys", "Keys that a stage remembers.", "stage")
	stateDesc    = desc("leat_state_bytes", "Bytes, about, that a stage remembers.", "stage")

	statsDescs = []*prometheus.Desc{upDesc, stopsDesc, rewindsDesc, rowsDesc, rejectedDesc, lettersDesc, lagDesc,
		bytesDesc, batchesDesc, lastDesc, ageDesc, waitDesc, keysDesc, stateDesc}
)

// collector shows a Metrics to a registry.
type collector struct{ m *Metrics }

func (c collector) vecs() []prometheus.Collector {
	e := &c.m.events
	return []prometheus.Collector{e.batches, e.retries, e.write, e.commit, e.checkpoint}
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, v := range c.vecs() {
		v.Describe(ch)
	}
	for _, d := range statsDescs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, v := range c.vecs() {
		v.Collect(ch)
	}
	c.m.mu.Lock()
	views := c.m.read()
	c.m.mu.Unlock()
	now := time.Now()
	for _, v := range views {
		v.collect(now, ch)
	}
}

func (v *view) collect(now time.Time, ch chan<- prometheus.Metric) {
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, value, append([]string{v.name}, labels...)...)
	}
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		send(d, prometheus.GaugeValue, value, labels...)
	}
	count := func(d *prometheus.Desc, n int64, labels ...string) {
		send(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge(upDesc, float64(v.up))
	count(stopsDesc, v.ok, "ok")
	count(stopsDesc, v.failed, "failed")
	count(rewindsDesc, v.rewinds)
	for n, t := range v.nodes {
		count(rowsDesc, t.in, n.name, n.kind, "in")
		count(rowsDesc, t.out, n.name, n.kind, "out")
		count(rowsDesc, t.rejected, n.name, n.kind, "rejected")
		count(rowsDesc, t.filtered, n.name, n.kind, "filtered")
		count(rowsDesc, t.added, n.name, n.kind, "added")
	}
	for why, rows := range v.rejected {
		count(rejectedDesc, rows, why.class, why.column, why.rule)
	}
	for _, class := range classes {
		if _, seen := v.letters[class]; !seen {
			count(lettersDesc, 0, class)
		}
	}
	for class, rows := range v.letters {
		count(lettersDesc, rows, class)
	}
	for partition, records := range v.lag {
		gauge(lagDesc, float64(records), partition)
	}
	gauge(bytesDesc, float64(v.inFlight))
	gauge(batchesDesc, float64(v.batches))
	if !v.checkpointed.IsZero() {
		gauge(lastDesc, float64(v.checkpointed.UnixMilli())/1e3)
	}
	if v.up > 0 {
		gauge(ageDesc, v.age(now))
		gauge(waitDesc, since(v.uncommitted, now))
	}
	for stage, size := range v.state {
		gauge(keysDesc, float64(size.Keys), stage)
		gauge(stateDesc, float64(size.Bytes), stage)
	}
}

// classes are shown from the start: a counter that first appears with its first row has
// no increase in Prometheus' eyes.
var classes = []string{
	string(leat.Decode), string(leat.Contract), string(leat.Transform), string(leat.SinkReject),
	string(leat.Late), string(leat.FutureTime),
}

// age is that of the last complete checkpoint of a pipeline that runs.
func (v *view) age(now time.Time) float64 {
	if v.checkpointed.IsZero() {
		return since(v.started, now)
	}
	return since(v.checkpointed, now)
}

// since is 0 for the zero time.
func since(t, now time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return max(0, now.Sub(t).Seconds())
}
