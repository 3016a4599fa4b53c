// Command topics makes the topics of the Kafka jobs, the same on each machine, and measures what comes out:
//
//	topics gen-w3 -topic bench-w3 -n 2000000        events: 1 % duplicates, 0.5 % invalid
//	topics gen-w4 -topic bench-w4 -n 2000000        transactions
//	topics mk -topic T [-logappend], topics rm PREFIX
//	topics lat -in IN -out OUT -rate 20000 -secs 60 paces IN and measures OUT, read committed
//	topics count -topic OUT -n N                    waits until N committed records are there
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

func brokers() []string {
	b := os.Getenv("KAFKA_BROKERS")
	if b == "" {
		b = "127.0.0.1:19092"
	}
	return strings.Split(b, ",")
}
func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "topics:", err)
		os.Exit(1)
	}
}

// mix is a splitmix64 step: the only source of "randomness".
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

func recreate(topic string, parts int32, cfg map[string]*string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers()...))
	must(err)
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ctx := context.Background()
	adm.DeleteTopics(ctx, topic)
	for i := 0; i < 100; i++ {
		r, err := adm.CreateTopic(ctx, parts, 1, cfg, topic)
		if err == nil && r.Err == nil {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	must(fmt.Errorf("could not create %s", topic))
}
func s(v string) *string { return &v }

func producer() *kgo.Client {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers()...),
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.ProducerLinger(5*time.Millisecond), kgo.ProducerBatchMaxBytes(900_000),
		kgo.MaxBufferedRecords(200_000), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.AllowAutoTopicCreation())
	must(err)
	return cl
}

func put(cl *kgo.Client, topic string, part int32, key, val []byte, ts time.Time) {
	cl.Produce(context.Background(), &kgo.Record{Topic: topic, Partition: part, Key: key, Value: val, Timestamp: ts}, func(_ *kgo.Record, err error) {
		if err != nil {
			must(err)
		}
	})
}

// ---- W3 ----------------------------------------------------------------
var w3base = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
var acciones = [3]string{"click", "view", "purchase"}

func w3valid(id uint64) []byte { // the canonical valid event with number id
	h := mix(id)
	ts := w3base.Add(time.Duration(id) * 125 * time.Millisecond)
	b := make([]byte, 0, 136)
	b = append(b, `{"event_id":"evt-`...)
	b = append(b, fmt.Sprintf("%012d", id)...)
	b = append(b, `","ts":"`...)
	b = ts.AppendFormat(b, "2006-01-02T15:04:05.000Z07:00")
	b = append(b, `","usuario_id":`...)
	b = strconv.AppendUint(b, 1+h%100000, 10)
	b = append(b, `,"accion":"`...)
	b = append(b, acciones[(h>>20)%3]...)
	b = append(b, `","monto":`...)
	if (h>>20)%3 == 2 {
		c := (h >> 32) % 50000
		b = append(b, fmt.Sprintf("%d.%02d", c/100, c%100)...)
	} else {
		b = append(b, "null"...)
	}
	return append(b, '}')
}
func monto(id uint64) uint64 {
	h := mix(id)
	if (h>>20)%3 == 2 {
		return (h >> 32) % 50000
	}
	return 0
}

// kind of position i: 0 valid, 1 duplicate (i%100==99), 2 invalid (i%200==57)
func genW3(args []string) {
	fs := flag.NewFlagSet("gen-w3", flag.ExitOnError)
	topic := fs.String("topic", "bench-w3", "")
	n := fs.Uint64("n", 2_000_000, "")
	exp := fs.String("expected", "", "")
	fs.Parse(args)
	recreate(*topic, 4, map[string]*string{"retention.ms": s("-1"), "retention.bytes": s("-1")})
	cl := producer()
	var valid, dup, bad, bytes, cents uint64
	for i := uint64(0); i < *n; i++ {
		id := i
		var v []byte
		switch {
		case i%100 == 99 && i >= 4100:
			back := 1 + mix(i^0xabcdef)%4000
			id = i - back
			for id%100 == 99 || id%200 == 57 {
				id--
			}
			v = w3valid(id)
			dup++
		case i%200 == 57:
			bad++
			v = w3valid(i)
			str := string(v)
			switch (i / 200) % 6 {
			case 0:
				str = strings.Replace(strings.Replace(strings.Replace(str, `"click"`, `"scroll"`, 1), `"view"`, `"scroll"`, 1), `"purchase"`, `"scroll"`, 1)
			case 1:
				str = str[:strings.Index(str, `"monto":`)] + `"monto":-1.50}`
			case 2:
				str = strings.Replace(str, `"ts":"2025-`, `"ts":"not-a-date-`, 1)
			case 3:
				str = strings.Replace(str, `"usuario_id":`, `"usuario_id":"u`, 1)
				str = strings.Replace(str, `,"accion"`, `","accion"`, 1)
			case 4:
				str = strings.Replace(str, `"event_id"`, `"evento"`, 1)
			case 5:
				str = str[:len(str)-10]
			}
			v = []byte(str)
		default:
			v = w3valid(i)
			valid++
			cents += monto(i)
		}
		key := []byte(fmt.Sprintf("evt-%012d", id))
		put(cl, *topic, int32(mix(id^0x55)%4), key, v, w3base.Add(time.Duration(i)*125*time.Millisecond))
		bytes += uint64(len(v))
	}
	must(cl.Flush(context.Background()))
	cl.Close()
	m := map[string]any{"topic": *topic, "records": *n, "unique_valid": valid, "duplicates": dup, "invalid": bad, "sum_monto": float64(cents) / 100, "avg_bytes": float64(bytes) / float64(*n)}
	out(m, *exp)
}

// ---- W4 ----------------------------------------------------------------
const w4baseMs = int64(1748736000000) // 2025-06-01T00:00:00Z

func w4value(b []byte, i uint64, cat int, cents uint64, ts int64) []byte {
	h := mix(i ^ 0x77)
	b = append(b, `{"tx_id":"tx-`...)
	b = append(b, fmt.Sprintf("%012d", i)...)
	b = append(b, `","account":"acc-`...)
	b = append(b, fmt.Sprintf("%07d", h%1000000)...)
	b = append(b, `","category":"cat-`...)
	b = append(b, fmt.Sprintf("%02d", cat)...)
	b = append(b, `","amount":`...)
	b = append(b, fmt.Sprintf("%d.%02d", cents/100, cents%100)...)
	b = append(b, `,"currency":"EUR","merchant":"merchant-`...)
	b = append(b, fmt.Sprintf("%07d", (h>>24)%5000)...)
	b = append(b, `","ts":`...)
	b = strconv.AppendInt(b, ts, 10)
	b = append(b, `,"status":"approved","country":"ES"}`...)
	return b
}
func out(m map[string]any, file string) {
	j, _ := json.MarshalIndent(m, "", " ")
	fmt.Println(string(j))
	if file != "" {
		must(os.WriteFile(file, append(j, '\n'), 0o644))
	}
}

func genW4(args []string) {
	fs := flag.NewFlagSet("gen-w4", flag.ExitOnError)
	topic := fs.String("topic", "bench-w4", "")
	n := fs.Uint64("n", 5_000_000, "")
	exp := fs.String("expected", "", "")
	fs.Parse(args)
	recreate(*topic, 4, map[string]*string{"retention.ms": s("-1"), "retention.bytes": s("-1")})
	cl := producer()
	var late, cents, bytes, lateCents uint64
	type wk struct {
		c int
		w int64
	}
	wins := map[wk]int{}
	span := float64(7_200_000) / float64(*n)
	for i := uint64(0); i < *n; i++ {
		h := mix(i)
		cat := int(h % 20)
		c := 1 + (h>>16)%100000
		front := w4baseMs + 130_000 + int64(float64(i)*span)
		ts := front - int64((h>>40)%5001)
		isLate := i%1000 == 777 && i > *n/100
		if isLate {
			ts = front - 60_000 - int64((h>>40)%60_000)
			late++
			lateCents += c
		} else {
			wins[wk{cat, ts / 30000}]++
			cents += c
		}
		v := w4value(make([]byte, 0, 200), i, cat, c, ts)
		bytes += uint64(len(v))
		put(cl, *topic, int32(cat%4), []byte(fmt.Sprintf("cat-%02d", cat)), v, time.UnixMilli(ts))
	}
	// one flush record per partition closes every window; category zz-N is ignored by the watcher
	for p := 0; p < 4; p++ {
		ts := w4baseMs + 130_000 + 7_200_000 + 600_000
		v := strings.Replace(string(w4value(nil, *n+uint64(p), p, 0, ts)), fmt.Sprintf(`"cat-%02d"`, p), fmt.Sprintf(`"zz-%d"`, p), 1)
		must(cl.Flush(context.Background()))
		put(cl, *topic, int32(p), []byte(fmt.Sprintf("zz-%d", p)), []byte(v), time.UnixMilli(ts))
	}
	must(cl.Flush(context.Background()))
	cl.Close()
	out(map[string]any{"topic": *topic, "records": *n, "flush_records": 4, "late": late, "on_time": *n - late, "windows": len(wins), "sum_on_time": float64(cents) / 100, "sum_late": float64(lateCents) / 100, "avg_bytes": float64(bytes) / float64(*n)}, *exp)
}

func lat(args []string) {
	fs := flag.NewFlagSet("lat", flag.ExitOnError)
	in := fs.String("in", "", "")
	outT := fs.String("out", "", "")
	rate := fs.Int("rate", 20000, "")
	secs := fs.Int("secs", 60, "")
	warm := fs.Int("warm", 15, "seconds at the start whose records are left out of the percentiles")
	fs.Parse(args)
	ctx := context.Background()
	pr := func() *kgo.Client {
		c, err := kgo.NewClient(kgo.SeedBrokers(brokers()...), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(0))
		must(err)
		return c
	}()
	cons, err := kgo.NewClient(kgo.SeedBrokers(brokers()...), kgo.ConsumeTopics(*outT), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(50*time.Millisecond), kgo.FetchMinBytes(1))
	must(err)
	var sent, kept atomic.Int64
	start := time.Now()
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		total := int64(*rate) * int64(*secs)
		for sent.Load() < total {
			due := int64(time.Since(start).Seconds() * float64(*rate))
			if due > total {
				due = total
			}
			for i := sent.Load(); i < due; i++ {
				now := time.Now()
				h := mix(uint64(i))
				cat := int(h % 20)
				v := w4value(make([]byte, 0, 220), uint64(i), cat, 1+(h>>16)%100000, now.UnixMilli())
				if i%10 == 9 { // one in ten is filtered away by the peer
					v = []byte(strings.Replace(string(v), `"approved"`, `"rejected"`, 1))
				} else {
					kept.Add(1)
				}
				put(pr, *in, int32(i%4), []byte(fmt.Sprintf("cat-%02d", cat)), v, now)
				sent.Add(1)
			}
			time.Sleep(4 * time.Millisecond)
		}
		must(pr.Flush(ctx))
	}()
	var app, vis, last []float64
	lastFrom := start.Add(time.Duration(*secs-30) * time.Second).UnixMilli() // steady part: the last 30 s
	var got int64
	idleSince := time.Now()
	warmEnd := start.Add(time.Duration(*warm) * time.Second)
	for {
		c2, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		f := cons.PollFetches(c2)
		cancel()
		now := time.Now()
		f.EachRecord(func(r *kgo.Record) {
			got++
			idleSince = now
			k := strings.Index(string(r.Value), `"ts":`)
			e := k + 5
			for e < len(r.Value) && r.Value[e] >= '0' && r.Value[e] <= '9' {
				e++
			}
			ms, err := strconv.ParseInt(string(r.Value[k+5:e]), 10, 64)
			if err != nil || ms < warmEnd.UnixMilli() {
				return
			}
			app = append(app, float64(r.Timestamp.UnixMilli()-ms))
			vis = append(vis, float64(now.UnixMicro())/1e3-float64(ms))
			if ms >= lastFrom {
				last = append(last, vis[len(vis)-1])
			}
		})
		if sent.Load() >= int64(*rate)*int64(*secs) && (got >= kept.Load() || now.Sub(idleSince) > 20*time.Second) {
			break
		}
		if now.Sub(start) > time.Duration(*secs+90)*time.Second {
			break
		}
	}
	wg.Wait()
	q := func(a []float64, p float64) float64 {
		if len(a) == 0 {
			return -1
		}
		return a[int(p*float64(len(a)-1))]
	}
	sort.Float64s(app)
	sort.Float64s(vis)
	sort.Float64s(last)
	var ru syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &ru)
	fmt.Printf("meter_cpu_s=%.1f sent=%d expected_out=%d out_rows=%d measured=%d append_p50_ms=%.0f append_p99_ms=%.0f append_max_ms=%.0f visible_p50_ms=%.1f visible_p99_ms=%.1f visible_max_ms=%.1f last30s_p50_ms=%.1f last30s_p99_ms=%.1f last30s_max_ms=%.1f\n",
		float64(ru.Utime.Sec+ru.Stime.Sec)+float64(ru.Utime.Usec+ru.Stime.Usec)/1e6, sent.Load(), kept.Load(), got, len(vis), q(app, .5), q(app, .99), q(app, 1), q(vis, .5), q(vis, .99), q(vis, 1), q(last, .5), q(last, .99), q(last, 1))
}

// countOut waits for committed records and tells how many there are in the end.
func countOut(args []string) {
	fs := flag.NewFlagSet("count", flag.ExitOnError)
	topic := fs.String("topic", "", "")
	n := fs.Int64("n", 0, "")
	timeout := fs.Int("timeout", 300, "seconds")
	pid := fs.Int("pid", 0, "give up when this process ends")
	fs.Parse(args)
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers()...), kgo.ConsumeTopics(*topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(200*time.Millisecond))
	must(err)
	var got int64
	deadline := time.Now().Add(time.Duration(*timeout) * time.Second)
	for got < *n && time.Now().Before(deadline) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		f := cl.PollFetches(ctx)
		cancel()
		got += int64(f.NumRecords())
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", *pid)); *pid != 0 && (err != nil || strings.Contains(string(stat), ") Z ")) {
			break
		}
	}
	end := time.Now()
	for { // one more would be one too many
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		f := cl.PollFetches(ctx)
		cancel()
		if f.NumRecords() == 0 {
			break
		}
		got += int64(f.NumRecords())
	}
	fmt.Printf("records=%d end_unix=%.3f\n", got, float64(end.UnixMilli())/1e3)
}

func mk(args []string) {
	fs := flag.NewFlagSet("mk", flag.ExitOnError)
	topic := fs.String("topic", "", "")
	parts := fs.Int("parts", 4, "")
	la := fs.Bool("logappend", false, "")
	fs.Parse(args)
	c := map[string]*string{}
	if *la {
		c["message.timestamp.type"] = s("LogAppendTime")
	}
	recreate(*topic, int32(*parts), c)
}

func rm(args []string) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers()...))
	must(err)
	adm := kadm.NewClient(cl)
	ts, err := adm.ListTopics(context.Background())
	must(err)
	for _, t := range ts.Names() {
		for _, p := range args {
			if strings.HasPrefix(t, p) {
				adm.DeleteTopics(context.Background(), t)
			}
		}
	}
	cl.Close()
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "see the head of main.go")
		os.Exit(2)
	}
	a := os.Args[2:]
	switch os.Args[1] {
	case "gen-w3":
		genW3(a)
	case "gen-w4":
		genW4(a)
	case "count":
		countOut(a)
	case "lat":
		lat(a)
	case "mk":
		mk(a)
	case "rm":
		rm(a)
	}
}
