// Package metrics measures pipelines: for Prometheus, as JSON, and as a health check.
//
//	m := metrics.New(metrics.Config{})
//	p := leat.New("ventas", leat.Config{Observe: m.Observe})
//	… // From, Via, To
//	m.Watch(p)
//	go http.ListenAndServe("127.0.0.1:9100", m.Handler()) // /metrics, /metrics.json, /healthz
//	err := p.Run(ctx)
//
// One [Metrics] serves all pipelines of a program. Nothing is registered in Prometheus' global
// registry; [Metrics.Collector] is for one of the program's own. What is measured costs
// per batch, never per row: of an engine that does nothing else 0.3 % of the CPU time in
// batches of 4,096 rows, 3 to 5 % in batches of 64 (BenchmarkMetrics at the root).
//
// # Metrics
//
// Every metric has the label pipeline.
//
//	leat_up                                              gauge: 1 while it runs
//	leat_stops_total{outcome}                            runs that ended: ok, failed
//	leat_rewinds_total                                   times it went back to its last checkpoint
//	leat_rows_total{node,kind,outcome}                   rows; see below
//	leat_rejected_rows_total{class,column,rule}          rejected rows by reason, - where there is none
//	leat_dead_letters_total{class}                       those of them that are kept
//	leat_batches_total{node}                             batches of each source that left the stages
//	leat_retries_total{node}                             failures after which a step is tried again
//	leat_lag_records{partition}                          gauge: not read yet; of sources that know (leat.Lagger)
//	leat_in_flight_bytes, leat_in_flight_batches         gauges: between sources and sinks; throughput is limited by their bounds
//	leat_checkpoint_duration_seconds                     histogram: from the barrier until all have it
//	leat_checkpoint_age_seconds                          gauge: since the last complete one; also grows while nothing comes
//	leat_last_checkpoint_timestamp_seconds               gauge: when that was
//	leat_uncommitted_seconds                             gauge: how long something has been waiting to be committed; 0 is idle
//	leat_sink_write_duration_seconds{node}               histogram: one batch, its retries included
//	leat_sink_commit_duration_seconds{node}              histogram: one commit, its retries included
//	leat_state_keys{stage}, leat_state_bytes{stage}      gauges: what stages remember (leat.Sized)
//
// # Rows
//
// kind is source, stage, merge or sink; outcome is in, out, rejected, filtered or added.
// They are each node's own: of a sink, in are the rows that it took or refused.
// in + added = out + rejected + filtered (rule A8), but for what a scrape meets on its way.
//
// leat_rows_total and the other counts of rows begin at 0 with the process. They count what was
// processed, which is up to one checkpoint ahead of what is committed, and never step back: when a
// pipeline goes back to its last checkpoint they stand still until it is there again, so that a row is
// counted once however often it is read. After a crash the next process counts the uncommitted rows
// again, as it reads them again. Counts over all processes, exact as of the last
// checkpoint, are in leat.Stats and in the state folder (leat positions). A sink that held
// rows before the process began, of which the state folder did not know, counts them as it
// comes by them.
package metrics
