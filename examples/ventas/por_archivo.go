package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/leatgo/leat"
)

// Resumen is what the good rows of one file add up to.
type Resumen struct {
	Archivo  string  `json:"archivo"`
	Filas    int64   `json:"filas"`
	Total    float64 `json:"total"`
	Clientes int     `json:"clientes"` // distinct ones
}

// porArchivo is a sink of our own: it adds up the rows of each file. The table
// does not name the file of a row, and adding up again after a crash must not
// count a row twice, so the sums are kept as leat's own sinks keep rows: sums
// and positions are replaced in one step, the rename of a small file (rule E1).
// The engine then leaves out the rows that the sums hold already (rule E7).
//
// A folder is one partition and its files come one after another, so only the
// last file's customers are remembered. A row that comes back from the dead letters
// is added to its file's sums; whether its customer is a new one is not known then.
type porArchivo struct {
	path string
	sums
}

const sumsFile = "por-archivo.json" // in the state folder

// sums is the content of the file. What is not committed is forgotten by reading
// the file again.
type sums struct {
	Positions map[string]leat.Position `json:"positions"`
	Archivos  []Resumen                `json:"archivos"` // in the order of reading
	Clientes  map[int64]bool           `json:"clientes"` // of the last file
}

func (s *porArchivo) Name() string { return "por_archivo" }

func (s *porArchivo) Guarantee() leat.Guarantee { return leat.ExactlyOnce }

func (s *porArchivo) Open(_ context.Context, env leat.Env) (err error) {
	s.path = filepath.Join(env.StateDir, sumsFile)
	s.sums, err = readSums(s.path)
	return err
}

func readSums(path string) (sums, error) {
	s := sums{Positions: map[string]leat.Position{}, Clientes: map[int64]bool{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		return s, fmt.Errorf("por_archivo: %s: %w", path, err)
	}
	return s, nil
}

// Restore gives back the positions that belong to the sums. An older owner need
// not be fenced: the state folder, in which the sums are, has one owner.
func (s *porArchivo) Restore(context.Context, []string) (map[string]leat.Position, error) {
	return maps.Clone(s.Positions), nil
}

func (s *porArchivo) Write(_ context.Context, b *leat.Batch[Rica]) error {
	again := strings.HasSuffix(b.Partition(), leat.ReplayPartition)
	for _, r := range b.Rows() {
		at := len(s.Archivos) - 1
		if again {
			at = slices.IndexFunc(s.Archivos, func(a Resumen) bool { return a.Archivo == r.Archivo })
		}
		if at < 0 || s.Archivos[at].Archivo != r.Archivo {
			s.Archivos = append(s.Archivos, Resumen{Archivo: r.Archivo})
			clear(s.Clientes)
			at = len(s.Archivos) - 1
		}
		sum := &s.Archivos[at]
		sum.Filas++
		sum.Total += r.Total
		if at == len(s.Archivos)-1 {
			s.Clientes[r.ClienteID] = true
			sum.Clientes = len(s.Clientes)
		}
	}
	return nil
}

func (s *porArchivo) Commit(_ context.Context, cp leat.Checkpoint) (done bool, err error) {
	maps.Copy(s.Positions, cp.Positions)
	err = atomically(s.path, s.path+".tmp", func(w *bufio.Writer) error { return json.NewEncoder(w).Encode(s.sums) })
	if err != nil {
		return false, fmt.Errorf("por_archivo: %w", err)
	}
	return true, nil
}

func (s *porArchivo) Close() error { return nil }
