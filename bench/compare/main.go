// Command compare runs leat and its rivals on the same work, in turn, checks what they
// wrote, and prints leat's ratios beside the targets.
//
//	go run ./compare                       # all jobs, 5 rounds
//	go run ./compare -jobs parquet,hive -rounds 9
//	go run ./compare -smoke                # small inputs, one round, no verdicts: does all of it run?
//
// The rivals are installed by rivals/setup.sh; inputs are generated once into -dir. A
// round runs every contender of a job once, each in a process of its own whose wall time
// counts from its start to its end; the median of the rounds is what ratios are made of.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	b := bench{}
	cache, _ := os.UserCacheDir()
	only := flag.String("jobs", "", "comma-separated names of jobs; empty for all")
	flag.IntVar(&b.rounds, "rounds", 5, "how often each contender runs")
	flag.StringVar(&b.dir, "dir", filepath.Join(os.TempDir(), "leat-bench"), "folder for inputs and outputs")
	flag.StringVar(&b.rivals, "rivals", filepath.Join(cache, "leat-rivals"), "where rivals/setup.sh has installed the rivals")
	flag.BoolVar(&b.smoke, "smoke", false, "small inputs, one round, no verdicts")
	flag.Parse()
	if b.smoke {
		b.rounds = 1
	}
	if err := b.run(strings.FieldsFunc(*only, func(r rune) bool { return r == ',' })); err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

// bench is one run of the program.
type bench struct {
	rounds      int
	dir, rivals string
	smoke       bool
	missed      int
}

func (b *bench) run(only []string) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return err
	}
	for _, tool := range []string{"ventas", "genventas"} {
		if out, err := exec.Command("go", "build", "-o", b.tool(tool), "./"+tool).CombinedOutput(); err != nil {
			return fmt.Errorf("go build ./%s (run compare in the folder bench): %w\n%s", tool, err, out)
		}
	}
	fmt.Printf("%s, %s, %d cores, %s, %d rounds\n", time.Now().Format("2006-01-02 15:04"), cpu(), runtime.NumCPU(), runtime.Version(), b.rounds)
	for _, j := range jobs() {
		if len(only) > 0 && !slices.Contains(only, j.name) {
			continue
		}
		if b.smoke {
			j.input = j.input.small()
		}
		if err := b.job(j); err != nil {
			return fmt.Errorf("job %s: %w", j.name, err)
		}
	}
	if len(only) == 0 || slices.Contains(only, "validate") {
		if err := b.validate(); err != nil {
			return fmt.Errorf("job validate: %w", err)
		}
	}
	if b.missed > 0 {
		fmt.Printf("\n%d targets missed\n", b.missed)
	}
	return nil
}

func (b *bench) tool(name string) string { return filepath.Join(b.dir, name) }

// cpu is the processor's name, where the system tells it.
func cpu() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if name, value, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// job runs one job and prints its table.
func (b *bench) job(j job) error {
	fmt.Printf("\n%s: %s\n", j.name, j.title)
	in, err := b.input(j.input)
	if err != nil {
		return err
	}
	results := make([]result, len(j.contenders))
	for range b.rounds {
		for i, c := range j.contenders {
			m, err := b.measure(c, in)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			results[i].add(m)
		}
	}
	fmt.Printf("  %-22s %9s %9s %9s %11s %9s\n", "", "median s", "best s", "cpu s", "rows/s", "peak MB")
	for i, c := range j.contenders {
		r := results[i]
		fmt.Printf("  %-22s %9.3f %9.3f %9.2f %11.0f %9.0f\n", c.name, r.median(), slices.Min(r.wall), r.cpuMedian(),
			float64(j.input.rows())/r.median(), r.peak)
		if r.written != results[0].written {
			return fmt.Errorf("%s wrote %s, %s wrote %s", c.name, r.written, j.contenders[0].name, results[0].written)
		}
	}
	fmt.Printf("  each wrote %s\n", results[0].written)
	if b.smoke {
		return nil
	}
	for _, t := range j.targets {
		if t.against == nil {
			b.verdict(float64(j.input.files)/results[0].median(), t, "files/s")
			continue
		}
		best := 0.0 // the fastest of those it is measured against
		for i, c := range j.contenders {
			if slices.Contains(t.against, c.name) && (best == 0 || results[i].median() < best) {
				best = results[i].median()
			}
		}
		b.verdict(best/results[0].median(), t, "x "+strings.Join(t.against, " or "))
	}
	if peak := results[0].peak; peak > 256 {
		b.missed++
		fmt.Printf("  MISSED: peak memory %.0f MB (at most 256, reach for 128)\n", peak)
	} else {
		fmt.Printf("  ok: peak memory %.0f MB (at most 256, reach for 128)\n", peak)
	}
	return nil
}

// verdict prints what was measured beside its target.
func (b *bench) verdict(got float64, t target, unit string) {
	word, reach := "ok", ""
	if got < t.least {
		word = "MISSED"
		b.missed++
	}
	if t.reach > 0 {
		reach = fmt.Sprintf(", reach for %.4g", t.reach)
	}
	fmt.Printf("  %s: %.2f %s (at least %.4g%s)\n", word, got, unit, t.least, reach)
}

// validate runs the benchmark of stage.Validate with the contract of ventas, on one core.
func (b *bench) validate() error {
	fmt.Println("\nvalidate: stage.Validate with the contract of ventas, and the library alone, on one core")
	time := "1s"
	if b.smoke {
		time = "10x"
	}
	cmd := exec.Command("go", "test", "-run", "xxx", "-bench", "^BenchmarkValidate$/^(direct|library)$", "-cpu", "1", "-benchtime", time, "./stage")
	cmd.Dir = ".."
	said, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	for line := range strings.Lines(string(said)) {
		f := strings.Fields(line)
		at := slices.Index(f, "rows/s")
		if at < 0 {
			continue
		}
		rate, err := strconv.ParseFloat(f[at-1], 64)
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(f[0], "/")
		fmt.Printf("  %-22s %9.2f M rows/s\n", name, rate/1e6)
		if name == "direct" && !b.smoke {
			b.verdict(rate/1e6, target{least: 8}, "M rows/s")
		}
	}
	return nil
}
