package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"
)

// seed is fixed: file n with r rows is the same on every machine and every day.
const seed = 2025

const header = "venta_id,cliente_id,producto_id,cantidad,precio_unitario,total,fecha_venta,metodo_pago,estado"

// Faults of generated lines. One line in ten has one, each kind in its turn.
const (
	noFault          = ""
	negativeQuantity = "negative quantity"
	unknownState     = "unknown state"
	brokenDate       = "broken date"
	raggedLine       = "ragged line"
)

var faults = [...]string{negativeQuantity, unknownState, brokenDate, raggedLine}

var (
	metodos = [...]string{"tarjeta", "efectivo", "transferencia"}
	estados = [...]string{"completada", "pendiente", "cancelada"}
)

func fileName(n int) string { return fmt.Sprintf("ventas-%04d.csv", n) }

// generate writes the files 1 to n into incoming and tells how many. A file that
// is there already, or was processed or refused before, is left as it is: the
// same command may be given again, also after a crash half way.
func generate(ctx context.Context, d folders, n, rows int) (made int, err error) {
	if err := sweep(d.incoming); err != nil {
		return 0, err
	}
	for i := 1; i <= n; i++ {
		known, err := d.holds(fileName(i))
		if err != nil {
			return made, err
		}
		if known {
			continue
		}
		// Two processes may generate at once: each has names of its own.
		tmp := filepath.Join(d.incoming, fmt.Sprintf(".%s.%d.tmp", fileName(i), os.Getpid()))
		err = atomically(filepath.Join(d.incoming, fileName(i)), tmp, func(w *bufio.Writer) error {
			for line := range lines(i, rows) {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				_, _ = w.Write(line)
				_ = w.WriteByte('\n')
			}
			return nil // the writer remembers its first error for Flush
		})
		if err != nil {
			return made, fmt.Errorf("generate: %w", err)
		}
		made++
	}
	return made, nil
}

// lines are the header and the rows of file n, each with its fault. venta_id is
// unique over the files of one size. A line is valid until the next one.
func lines(n, rows int) iter.Seq2[[]byte, string] {
	return func(yield func([]byte, string) bool) {
		if !yield([]byte(header), noFault) {
			return
		}
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		var buf []byte
		bad := 0
		for i := range rows {
			if i%10 == 0 {
				bad = i + rng.IntN(10)
			}
			fault := noFault
			if i == bad && i-i%10+10 <= rows { // in whole tens only: the share is exact
				fault = faults[(i/10+n)%len(faults)]
			}
			buf = appendLine(buf[:0], rng, (n-1)*rows+i, fault)
			if !yield(buf, fault) {
				return
			}
		}
	}
}

func appendLine(b []byte, rng *rand.Rand, id int, fault string) []byte {
	quantity := 1 + rng.Int64N(5)
	cents := 1000 + rng.Int64N(49_001) // 10.00 to 500.00, as in the notebook
	total := cents * quantity
	state := estados[rng.IntN(len(estados))]
	if fault == negativeQuantity {
		quantity = -quantity
	}
	if fault == unknownState {
		state = "devuelta"
	}

	b = strconv.AppendInt(b, int64(id), 10)
	b = strconv.AppendInt(append(b, ','), 1+rng.Int64N(400), 10)
	b = strconv.AppendInt(append(b, ','), 1+rng.Int64N(int64(len(productos))), 10)
	b = strconv.AppendInt(append(b, ','), quantity, 10)
	b = appendCents(append(b, ','), cents)
	b = appendCents(append(b, ','), total)
	b = append(b, ',')
	at := time.Date(2025, 1, 1, 0, 0, rng.IntN(365*24*3600), 0, time.UTC)
	if fault == brokenDate {
		b = append(b, "2025-13-45 25:61:00"...)
	} else {
		b = at.AppendFormat(b, "2006-01-02 15:04:05")
	}
	b = append(append(b, ','), metodos[rng.IntN(len(metodos))]...)
	if fault == raggedLine {
		return b // one field too few
	}
	return append(append(b, ','), state...)
}

func appendCents(b []byte, cents int64) []byte {
	b = strconv.AppendInt(b, cents/100, 10)
	return append(b, '.', byte('0'+cents/10%10), byte('0'+cents%10))
}

// sweep removes what a killed process has left half written.
func sweep(dir string) error {
	found, err := filepath.Glob(filepath.Join(dir, ".ventas-*.tmp"))
	if err != nil {
		return err
	}
	for _, tmp := range found {
		info, err := os.Stat(tmp)
		if err == nil && time.Since(info.ModTime()) > time.Minute { // else somebody may be writing it
			err = os.Remove(tmp)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// atomically makes a file that is whole or not there: nobody sees it grow (rule
// D1), and it survives a power cut.
func atomically(path, tmp string, fill func(w *bufio.Writer) error) (err error) {
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp))
		}
	}()
	w := bufio.NewWriterSize(f, 1<<16)
	if err := fill(w); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// syncDir makes the names in a folder durable. Windows has no such call.
func syncDir(path string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// folders are where a file can be.
type folders struct{ incoming, processed, failed string }

func foldersOf(incoming string) folders {
	beside := filepath.Dir(incoming)
	return folders{incoming, filepath.Join(beside, "processed"), filepath.Join(beside, "failed")}
}

func (d folders) all() []string { return []string{d.incoming, d.processed, d.failed} }

// holds tells whether one of the folders has a file of this name.
func (d folders) holds(name string) (bool, error) {
	for _, dir := range d.all() {
		_, err := os.Lstat(filepath.Join(dir, name))
		if err == nil {
			return true, nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	return false, nil
}
