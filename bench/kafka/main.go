// Command kafka runs leat and its rivals on the same topics of one real broker, in turn, checks what came
// out, and prints leat's ratios beside the targets.
//
//	LEAT_KAFKA=127.0.0.1:19092 go run ./kafka                  all jobs, 3 rounds
//	LEAT_KAFKA=127.0.0.1:19092 go run ./kafka -jobs w3,drain,lat -rounds 1
//
// The broker is started by .ci/servers/kafka.sh start 1, the rivals are installed by
// rivals/setup-kafka.sh; one that is missing is named and left out. A round runs every contender of a job
// once, in a process of its own, whose wall time counts from its start until the last record is
// visible to a reader of committed records, or until it ends. CPU and memory are those of the process and its children.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	brokers, rivals, dir string
	rounds, scale        int // scale divides the inputs
	secs                 int
}

// outcome is one run of a contender.
type outcome struct {
	wall, cpu float64
	rss       int64 // MiB
	verdict   string
	p50, p99  float64
}

type contender struct {
	name  string
	needs string // a path below rivals; "" is leat
	run   func(b *bench, id string) (outcome, error)
}

type job struct {
	name, title string
	rows        int
	prepare     func(b *bench) error
	contenders  []contender
	judge       func(by map[string]outcome)
}

func main() {
	b := bench{brokers: os.Getenv("LEAT_KAFKA")}
	cache, _ := os.UserCacheDir()
	only := flag.String("jobs", "", "comma-separated names of jobs: w3, drain, lat; empty for all")
	flag.IntVar(&b.rounds, "rounds", 3, "how often each contender runs")
	flag.IntVar(&b.scale, "scale", 1, "divide the inputs by this")
	flag.IntVar(&b.secs, "secs", 60, "length of a run of lat")
	flag.StringVar(&b.rivals, "rivals", filepath.Join(cache, "leat-rivals"), "where rivals/setup-kafka.sh has installed them")
	flag.StringVar(&b.dir, "dir", filepath.Join(os.TempDir(), "leat-bench-kafka"), "folder for outputs")
	names := flag.String("contenders", "", "comma-separated; empty for all")
	flag.Parse()
	if err := b.all(split(*only), split(*names)); err != nil {
		fmt.Fprintln(os.Stderr, "kafka:", err)
		os.Exit(1)
	}
}

func split(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' })
}

func (b *bench) all(only, names []string) error {
	if b.brokers == "" {
		return errors.New("LEAT_KAFKA names no broker")
	}
	os.Setenv("KAFKA_BROKERS", b.brokers)
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	for tool, pkg := range map[string]string{"topics": "./topics", "kafkapass": "./kafkapass", "eventos": "github.com/leatgo/leat/examples/eventos"} {
		if out, err := exec.Command("go", "build", "-o", b.tool(tool), pkg).CombinedOutput(); err != nil {
			return fmt.Errorf("go build %s (run it in the folder bench): %w\n%s", pkg, err, out)
		}
	}
	fmt.Printf("%s, %s, %d cores, %s, broker on the same machine, %d rounds\n", time.Now().Format("2006-01-02 15:04"), cpu(), runtime.NumCPU(), runtime.Version(), b.rounds)
	for _, j := range b.jobs() {
		if len(only) > 0 && !slices.Contains(only, j.name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", j.name, j.title)
		if err := j.prepare(b); err != nil {
			return fmt.Errorf("%s: %w", j.name, err)
		}
		all := map[string][]outcome{}
		for round := range b.rounds {
			for _, c := range j.contenders {
				if len(names) > 0 && !slices.Contains(names, c.name) {
					continue
				}
				if c.needs != "" {
					if _, err := os.Stat(filepath.Join(b.rivals, c.needs)); err != nil {
						if round == 0 {
							fmt.Printf("  %-28s is not installed\n", c.name)
						}
						continue
					}
				}
				id := fmt.Sprintf("bench-%s-%d", strings.ReplaceAll(c.name, " ", "-"), time.Now().UnixMilli())
				o, err := c.run(b, id)
				_ = exec.Command(b.tool("topics"), "rm", id).Run()
				if err != nil {
					fmt.Printf("  %-28s FAILED: %v\n", c.name, err)
					continue
				}
				all[c.name] = append(all[c.name], o)
			}
		}
		by := map[string]outcome{}
		for _, c := range j.contenders {
			if os := all[c.name]; len(os) > 0 {
				o := median(os)
				by[c.name] = o
				if o.p50 > 0 {
					fmt.Printf("  %-28s p50 %7.1f ms  p99 %7.1f ms  cpu %6.1f s  %5d MiB  %s\n", c.name, o.p50, o.p99, o.cpu, o.rss, o.verdict)
					continue
				}
				fmt.Printf("  %-28s wall %7.2f s  %9.0f rows/s  cpu %7.2f s  %9.0f rows/cpu-s  %5d MiB  %s\n", c.name, o.wall, float64(j.rows)/o.wall, o.cpu, float64(j.rows)/o.cpu, o.rss, o.verdict)
			}
		}
		j.judge(by)
	}
	return nil
}

func median(os []outcome) outcome {
	slices.SortFunc(os, func(a, b outcome) int {
		x, y := a.wall, b.wall
		if a.p50 > 0 {
			x, y = a.p50, b.p50
		}
		if x < y {
			return -1
		}
		return 1
	})
	return os[len(os)/2]
}

func (b *bench) tool(name string) string { return filepath.Join(b.dir, name) }

// topics runs the command topics and gives its last line.
func (b *bench) topics(args ...string) (string, error) {
	out, err := exec.Command(b.tool("topics"), args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("topics %v: %w: %s", args, err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// process is a contender's, in a group of its own.
type process struct {
	cmd   *exec.Cmd
	began time.Time
	log   *os.File
	stop  chan struct{}
	done  chan struct{}
	cpu   float64
	rss   int64
}

func (b *bench) start(name string, env []string, args ...string) (*process, error) {
	log, err := os.Create(filepath.Join(b.dir, strings.ReplaceAll(name, " ", "-")+".log"))
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.Command(args[0], args[1:]...), log: log, stop: make(chan struct{}), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go p.sample()
	return p, nil
}

// sample looks at the process and its children, five times a second.
func (p *process) sample() {
	defer close(p.done)
	for {
		p.look()
		select {
		case <-p.stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (p *process) look() {
	cpu, rss := 0.0, int64(0)
	procs, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, f := range procs {
		s, err := os.ReadFile(f)
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(s), ") ")
		if i := strings.LastIndex(string(s), ") "); i >= 0 {
			rest = string(s)[i+2:]
		}
		w := strings.Fields(rest)
		if len(w) < 22 || w[2] != strconv.Itoa(p.cmd.Process.Pid) { // its group
			continue
		}
		u, _ := strconv.ParseFloat(w[11], 64)
		k, _ := strconv.ParseFloat(w[12], 64)
		cpu += (u + k) / 100
		pages, _ := strconv.ParseInt(w[21], 10, 64)
		rss += pages * 4096 >> 20
	}
	p.cpu, p.rss = max(p.cpu, cpu), max(p.rss, rss)
}

// wait lets it end by itself.
func (p *process) wait() (outcome, error) {
	err := p.cmd.Wait()
	o := outcome{wall: time.Since(p.began).Seconds()}
	close(p.stop)
	<-p.done
	p.log.Close()
	if err != nil {
		return o, fmt.Errorf("%w (see %s)", err, p.log.Name())
	}
	use := p.cmd.ProcessState.SysUsage().(*syscall.Rusage)
	o.cpu, o.rss = max(p.cpu, (p.cmd.ProcessState.UserTime()+p.cmd.ProcessState.SystemTime()).Seconds()), max(p.rss, use.Maxrss>>10)
	return o, nil
}

// end takes the measures and stops it.
func (p *process) end() outcome {
	p.look()
	close(p.stop)
	<-p.done
	o := outcome{cpu: p.cpu, rss: p.rss}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	over := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(over) }()
	select {
	case <-over:
	case <-time.After(20 * time.Second):
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
		<-over
	}
	p.log.Close()
	return o
}

func cpu() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	for _, l := range strings.Split(string(b), "\n") {
		if k, v, ok := strings.Cut(l, ":"); ok && strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}
