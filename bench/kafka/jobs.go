package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

func (b *bench) jobs() []job { return []job{b.w3(), b.drain(), b.latency()} }

// w3: the program examples/eventos beside programs that do the same.
func (b *bench) w3() job {
	n := 2_000_000 / b.scale
	want := "rows=1970041 sum=163968985.58 dates=3"
	python := filepath.Join(b.rivals, "venv-bytewax/bin/python")
	check := func(out, level string) (string, error) {
		v, err := exec.Command(python, "rivals/verify/events.py", out, level).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("reading the output: %w: %s", err, v)
		}
		got := strings.TrimSpace(string(v))
		if b.scale == 1 && !strings.HasPrefix(got, want) {
			return "", fmt.Errorf("wrong output: %s, want %s", got, want)
		}
		return got, nil
	}
	run := func(name, level string, env []string, args ...string) func(b *bench, id string) (outcome, error) {
		return func(b *bench, id string) (outcome, error) {
			out := filepath.Join(b.dir, id)
			defer os.RemoveAll(out)
			state := out + "-state"
			defer os.RemoveAll(state)
			if err := os.MkdirAll(out, 0o755); err != nil {
				return outcome{}, err
			}
			full := make([]string, len(args))
			for i, a := range args {
				full[i] = strings.NewReplacer("{OUT}", out, "{ID}", id).Replace(a)
			}
			p, err := b.start(name, append(env, "TOPIC=bench-w3", "APP_ID="+id, "STATE_DIR="+state, "OUT_DIR="+out, "N="+strconv.Itoa(n)), full...)
			if err != nil {
				return outcome{}, err
			}
			o, err := p.wait()
			if err != nil {
				return o, err
			}
			o.verdict, err = check(out, level)
			return o, err
		}
	}
	return job{
		name: "w3", title: fmt.Sprintf("Kafka → JSON → validate → drop duplicates → Parquet by date; %d events, exactly once", n), rows: n,
		prepare: func(b *bench) error {
			_, err := b.topics("gen-w3", "-topic", "bench-w3", "-n", strconv.Itoa(n))
			return err
		},
		contenders: []contender{
			{"leat", "", run("leat", "date", nil, b.tool("eventos"), "-brokers", b.brokers, "-topic", "bench-w3", "-group", "{ID}", "-out", "{OUT}", "-drain", "-json")},
			{"plain python", "venv-bytewax/bin/python", run("plain python", "fecha", nil, python, "rivals/kafka/plain_bulk.py", strconv.Itoa(n), "{OUT}")},
			{"bytewax", "venv-bytewax/bin/python", run("bytewax", "fecha", []string{"PYTHONPATH=rivals/kafka"}, python, "-m", "bytewax.run", "bytewax_w3:flow")},
			{"pyspark", "venv-spark/bin/python", run("pyspark", "fecha", []string{"SPARK_JARS=" + filepath.Join(b.rivals, "spark/libs")},
				filepath.Join(b.rivals, "venv-spark/bin/python"), "rivals/kafka/spark_w3.py", "{OUT}", "2")},
		},
		judge: func(by map[string]outcome) {
			leat, ok := by["leat"]
			if !ok {
				return
			}
			best := 0.0
			for _, name := range []string{"plain python", "bytewax"} {
				if o, ok := by[name]; ok && (best == 0 || o.wall < best) {
					best = o.wall
				}
			}
			verdict("leat : best of plain python, bytewax", best/leat.wall, 5)
			verdict("leat : pyspark", by["pyspark"].wall/leat.wall, 30)
			below("leat, peak MiB", float64(leat.rss), 256)
		},
	}
}

func (b *bench) java(name string, heap string) []string {
	args := []string{"java", "-Xmx" + heap, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"}
	if name == "flink" {
		for _, p := range []string{"java.util", "java.lang", "java.time", "java.util.concurrent"} {
			args = append(args, "--add-opens=java.base/"+p+"=ALL-UNNAMED")
		}
	}
	dir := filepath.Join(b.rivals, name)
	return append(args, "-cp", dir+"/libs/*:"+dir+"/cls", map[string]string{"flink": "FL", "kstreams": "KS"}[name])
}

// drain: from Kafka to Kafka as fast as it goes.
func (b *bench) drain() job {
	n := 2_000_000 / b.scale
	run := func(name string, args func(b *bench, in, out, id string) []string) func(b *bench, id string) (outcome, error) {
		return func(b *bench, id string) (outcome, error) {
			out := id + "-out"
			if _, err := b.topics("mk", "-topic", out); err != nil {
				return outcome{}, err
			}
			state := filepath.Join(b.dir, id)
			defer os.RemoveAll(state)
			p, err := b.start(name, []string{"STATE_DIR=" + state, "OUT_TOPIC=" + out, "TOPIC=bench-w4", "APP_ID=" + id}, args(b, "bench-w4", out, id)...)
			if err != nil {
				return outcome{}, err
			}
			got, err := b.topics("count", "-topic", out, "-n", strconv.Itoa(n+4), "-pid", strconv.Itoa(p.cmd.Process.Pid))
			o := p.end()
			if err != nil {
				return o, err
			}
			end := number(got, "end_unix")
			o.wall = end - float64(p.began.UnixMilli())/1e3
			if number(got, "records") != float64(n+4) {
				return o, fmt.Errorf("wrong output: %s, want %d records", got, n+4)
			}
			o.verdict = got
			return o, nil
		}
	}
	return job{
		name: "drain", title: fmt.Sprintf("Kafka → decode → filter → encode → Kafka, exactly once; %d records", n), rows: n,
		prepare: func(b *bench) error {
			_, err := b.topics("gen-w4", "-topic", "bench-w4", "-n", strconv.Itoa(n))
			return err
		},
		contenders: []contender{
			{"leat", "", run("leat drain", func(b *bench, in, out, id string) []string {
				return []string{b.tool("kafkapass"), "-brokers", b.brokers, "-in", in, "-out", out, "-group", id, "-once", "-state", filepath.Join(b.dir, id)}
			})},
			{"kafka streams", "kstreams/cls/KS.class", run("kafka streams drain", func(b *bench, in, out, id string) []string {
				return append(b.java("kstreams", "2g"), "pass", in, out, id, "eos", "2", "0", "rocks")
			})},
			{"flink 1 s", "flink/cls/FL.class", run("flink drain", func(b *bench, in, out, id string) []string {
				return append(b.java("flink", "2g"), "pass", in, out, id, "eos", "2", "1000")
			})},
		},
		judge: func(by map[string]outcome) {
			leat, ok := by["leat"]
			if !ok {
				return
			}
			verdict("leat : kafka streams, rows per CPU second", by["kafka streams"].cpu/leat.cpu, 5)
			fmt.Printf("  %-52s %6.2f\n", "leat : kafka streams, wall", by["kafka streams"].wall/leat.wall)
			below("leat, peak MiB", float64(leat.rss), 256)
		},
	}
}

// latency: 20,000 records a second, from being sent to being read.
func (b *bench) latency() job {
	run := func(name string, args func(b *bench, in, out, id string) []string) func(b *bench, id string) (outcome, error) {
		return func(b *bench, id string) (outcome, error) {
			in, out := id+"-in", id+"-out"
			if _, err := b.topics("mk", "-topic", in); err != nil {
				return outcome{}, err
			}
			if _, err := b.topics("mk", "-topic", out, "-logappend"); err != nil {
				return outcome{}, err
			}
			state := filepath.Join(b.dir, id)
			defer os.RemoveAll(state)
			p, err := b.start(name, []string{"STATE_DIR=" + state, "OUT_TOPIC=" + out, "TOPIC=" + in, "APP_ID=" + id}, args(b, in, out, id)...)
			if err != nil {
				return outcome{}, err
			}
			time.Sleep(8 * time.Second) // a JVM takes its time
			got, err := b.topics("lat", "-in", in, "-out", out, "-rate", "20000", "-secs", strconv.Itoa(b.secs), "-warm", strconv.Itoa(b.secs/4))
			o := p.end()
			if err != nil {
				return o, err
			}
			o.p50, o.p99 = number(got, "visible_p50_ms"), number(got, "visible_p99_ms")
			if number(got, "out_rows") != number(got, "expected_out") {
				return o, fmt.Errorf("wrong output: %s", got)
			}
			o.verdict = fmt.Sprintf("records=%.0f", number(got, "out_rows"))
			return o, nil
		}
	}
	pass := func(extra ...string) func(b *bench, in, out, id string) []string {
		return func(b *bench, in, out, id string) []string {
			return append([]string{b.tool("kafkapass"), "-brokers", b.brokers, "-in", in, "-out", out, "-group", id, "-state", filepath.Join(b.dir, id)}, extra...)
		}
	}
	ks := func(args ...string) func(b *bench, in, out, id string) []string {
		return func(b *bench, in, out, id string) []string {
			return append(b.java("kstreams", "2g"), append([]string{"pass", in, out, id}, args...)...)
		}
	}
	fl := func(args ...string) func(b *bench, in, out, id string) []string {
		return func(b *bench, in, out, id string) []string {
			return append(b.java("flink", "2g"), append([]string{"pass", in, out, id}, args...)...)
		}
	}
	return job{
		name: "lat", title: "the same at 20,000 records/s, from being sent to being visible to a reader of committed records", rows: 1,
		prepare: func(*bench) error { return nil },
		contenders: []contender{
			{"leat eos 100 ms", "", run("leat eos", pass("-once", "-every", "100ms"))},
			{"leat at least once", "", run("leat alo", pass("-every", "1s"))},
			{"kafka streams eos 100 ms", "kstreams/cls/KS.class", run("ks eos", ks("eos", "2", "0", "rocks"))},
			{"flink eos 1 s", "flink/cls/FL.class", run("flink eos", fl("eos", "2", "1000"))},
			{"flink at least once", "flink/cls/FL.class", run("flink alo", fl("alo", "2", "1000"))},
		},
		judge: func(by map[string]outcome) {
			leat, alo := by["leat eos 100 ms"], by["leat at least once"]
			for _, rival := range []string{"kafka streams eos 100 ms", "flink eos 1 s"} {
				if o, ok := by[rival]; ok && leat.p50 > 0 {
					below("leat eos : "+rival+", p50", leat.p50/o.p50, 1)
					below("leat eos : "+rival+", p99", leat.p99/o.p99, 1)
				}
			}
			if o, ok := by["flink at least once"]; ok && alo.p50 > 0 {
				below("leat at least once : flink's, p50", alo.p50/o.p50, 1)
				below("leat at least once : flink's, p99", alo.p99/o.p99, 1)
			}
		},
	}
}

func verdict(what string, ratio, target float64) {
	if ratio == 0 {
		return
	}
	word := "reached"
	if ratio < target {
		word = "MISSED"
	}
	fmt.Printf("  %-52s %6.2f   target %g   %s\n", what, ratio, target, word)
}

func below(what string, value, target float64) {
	word := "reached"
	if value >= target {
		word = "MISSED"
	}
	fmt.Printf("  %-52s %6.2f   below %g   %s\n", what, value, target, word)
}

// number finds key=value in a line.
func number(line, key string) float64 {
	m := regexp.MustCompile(`(?:^|\s)` + key + `=([0-9.]+)`).FindStringSubmatch(line)
	if m == nil {
		return -1
	}
	f, _ := strconv.ParseFloat(m[1], 64)
	return f
}
