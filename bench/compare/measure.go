package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// measured is one run of one contender.
type measured struct {
	wall, cpu float64 // seconds
	peak      float64 // MB
	written   string  // what the verification found in the output
}

// result is all runs of one contender.
type result struct {
	wall, cpu []float64
	peak      float64
	written   string
}

func (r *result) add(m measured) {
	r.wall, r.cpu = append(r.wall, m.wall), append(r.cpu, m.cpu)
	r.peak, r.written = max(r.peak, m.peak), m.written
}

func (r *result) median() float64    { return median(r.wall) }
func (r *result) cpuMedian() float64 { return median(r.cpu) }

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// measure runs a contender once in an empty folder.
func (b *bench) measure(c contender, in string) (measured, error) {
	out := filepath.Join(b.dir, "out")
	if err := os.RemoveAll(out); err != nil {
		return measured{}, err
	}
	if err := os.Mkdir(out, 0o755); err != nil {
		return measured{}, err
	}
	syscall.Sync() // what the run before left is not this one's
	args := c.command(b, in, out)
	cmd := exec.Command(args[0], args[1:]...)
	start := time.Now()
	said, err := cmd.CombinedOutput()
	wall := time.Since(start).Seconds()
	if err != nil {
		return measured{}, fmt.Errorf("%w\n%s", err, said)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok {
		return measured{}, errors.New("this system does not tell what a process used")
	}
	written, err := b.verify(c.verify, out)
	if err != nil {
		return measured{}, err
	}
	return measured{
		wall: wall, cpu: (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds(),
		peak: float64(usage.Maxrss) / 1024, written: written,
	}, nil
}

// verify counts and sums up what was written.
func (b *bench) verify(kinds []string, out string) (string, error) {
	var found []string
	for _, kind := range kinds {
		script, path, _ := strings.Cut(kind, ":")
		said, err := exec.Command(b.python(), filepath.Join("rivals", "verify", "check_"+script+".py"), filepath.Join(out, path)).CombinedOutput()
		if err != nil {
			return "", fmt.Errorf("verify %s: %w\n%s", kind, err, said)
		}
		found = append(found, strings.TrimSpace(string(said)))
	}
	if len(found) > 1 && found[0] != found[1] {
		return "", fmt.Errorf("the sinks hold different rows: %v", found)
	}
	return found[0], nil
}

func (b *bench) python() string       { return filepath.Join(b.rivals, "venv", "bin", "python") }
func (b *bench) pythonSQLite() string { return filepath.Join(b.rivals, "venv-sqlite", "bin", "python") }

// input is what a job reads.
type input struct {
	name           string
	perFile, files int
	groups         int
	quoted         bool
	format         string // "" is CSV; jsonl; parquet, made from the CSV by pyarrow
}

// small is the input of a smoke run.
func (i input) small() input {
	i.name += "-smoke"
	if i.files > 0 {
		i.files /= 50
	} else {
		i.perFile /= 50
	}
	return i
}

func (i input) rows() int { return i.perFile * max(1, i.files) }

// glob finds the files of an input.
func (b *bench) glob(in string) string {
	for _, ending := range []string{"csv", "jsonl", "parquet"} {
		if found, _ := filepath.Glob(filepath.Join(in, "*."+ending)); len(found) > 0 {
			return filepath.Join(in, "*."+ending)
		}
	}
	return in
}

// input makes the input unless it is there, and returns its folder.
func (b *bench) input(i input) (string, error) {
	dir := filepath.Join(b.dir, "in-"+i.name)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp := dir + ".tmp"
	if err := errors.Join(os.RemoveAll(tmp), os.MkdirAll(tmp, 0o755)); err != nil {
		return "", err
	}
	// One file is one of many: the same flags make both.
	args := []string{"-dir", tmp, "-files", fmt.Sprint(max(1, i.files)), "-groups", fmt.Sprint(max(1, i.groups))}
	if i.quoted {
		args = append(args, "-quoted")
	}
	if i.format == "jsonl" {
		args = append(args, "-json")
	}
	if said, err := exec.Command(b.tool("genventas"), append(args, fmt.Sprint(i.perFile))...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("genventas: %w\n%s", err, said)
	}
	if i.format == "parquet" {
		csv := filepath.Join(tmp, "ventas-000000.csv")
		if said, err := exec.Command(b.python(), "rivals/parquet/make_input.py", csv, filepath.Join(tmp, "ventas-000000.parquet")).CombinedOutput(); err != nil {
			return "", fmt.Errorf("make_input.py: %w\n%s", err, said)
		}
		if err := os.Remove(csv); err != nil {
			return "", err
		}
	}
	return dir, os.Rename(tmp, dir)
}
