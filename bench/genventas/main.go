// Command genventas writes sales as CSV or JSON lines, the input of the benchmarks: always
// the same for the same flags.
//
//	genventas 1000000 > FILE                 # one file
//	genventas -quoted 1000000 > FILE         # every field in quotes
//	genventas -groups 10 100000 > FILE       # the nine columns ten times, the later ones as venta_id_2 …
//	genventas -files 10000 -dir DIR 100      # many files of 100 rows each
//	genventas -json 1000000 > FILE           # JSON lines
package main

import (
	"bufio"
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

func main() {
	quoted := flag.Bool("quoted", false, "every field in quotes")
	jsonl := flag.Bool("json", false, "JSON lines")
	groups := flag.Int("groups", 1, "how often the nine columns repeat")
	files := flag.Int("files", 0, "write that many files into -dir instead of standard output")
	dir := flag.String("dir", ".", "folder for -files")
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "usage: genventas [flags] ROWS")
		flag.PrintDefaults()
	}
	flag.Parse()
	n, err := strconv.Atoi(flag.Arg(0))
	if err != nil || flag.NArg() != 1 || *groups < 1 {
		flag.Usage()
		os.Exit(2)
	}
	g := generator{quoted: *quoted, json: *jsonl, groups: *groups}
	if *files == 0 {
		err = g.write(os.Stdout, 0, n)
	}
	for i := range *files {
		if err == nil {
			err = g.file(filepath.Join(*dir, fmt.Sprintf("ventas-%06d.%s", i, g.ending())), i*n, n)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

type generator struct {
	quoted bool
	json   bool
	groups int
}

func (g generator) ending() string {
	if g.json {
		return "jsonl"
	}
	return "csv"
}

func (g generator) file(name string, from, n int) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := g.write(f, from, n); err != nil {
		return err
	}
	return f.Close()
}

var (
	names  = []string{"venta_id", "cliente_id", "producto_id", "cantidad", "precio_unitario", "total", "fecha_venta", "metodo_pago", "estado"}
	pays   = []string{"tarjeta", "efectivo", "transferencia"}
	states = []string{"completada", "pendiente", "cancelada"}
	first  = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
)

// write gives rows from to from+n-1.
func (g generator) write(to io.Writer, from, n int) error {
	w := bufio.NewWriterSize(to, 1<<20)
	if g.json {
		var line []byte
		for j := from; j < from+n; j++ {
			line = appendJSON(line[:0], j)
			_, _ = w.Write(line) // bufio keeps the error for Flush
		}
		return w.Flush()
	}
	for i := range g.groups {
		for k, name := range names {
			if i+k > 0 {
				name = "," + name
			}
			if i > 0 {
				name += "_" + strconv.Itoa(i+1)
			}
			_, _ = w.WriteString(name)
		}
	}
	_ = w.WriteByte('\n')
	var row, line []byte
	for j := from; j < from+n; j++ {
		row = appendRow(row[:0], j)
		if g.quoted {
			row = append(append([]byte{'"'}, bytes.ReplaceAll(row, []byte(","), []byte(`","`))...), '"')
		}
		line = line[:0]
		for i := range g.groups {
			if i > 0 {
				line = append(line, ',')
			}
			line = append(line, row...)
		}
		_, _ = w.Write(append(line, '\n'))
	}
	return w.Flush()
}

func appendRow(b []byte, j int) []byte {
	units := j%5 + 1
	price := float64(j*37%50000)/100 + 1
	for _, v := range []int{j, j*7919%50000 + 1, j%977 + 1, units} {
		b = append(strconv.AppendInt(b, int64(v), 10), ',')
	}
	b = append(strconv.AppendFloat(b, price, 'f', 2, 64), ',')
	b = append(strconv.AppendFloat(b, price*float64(units), 'f', 2, 64), ',')
	b = append(first.Add(time.Duration(20*j)*time.Second).AppendFormat(b, "2006-01-02 15:04:05"), ',')
	b = append(append(b, pays[j%3]...), ',')
	return append(b, states[j/3%3]...)
}

// appendJSON gives the row of appendRow as one line.
func appendJSON(b []byte, j int) []byte {
	cells := bytes.Split(appendRow(nil, j), []byte(","))
	for k, cell := range cells {
		b = append(b, ',')
		if k == 0 {
			b[len(b)-1] = '{'
		}
		b = append(strconv.AppendQuote(b, names[k]), ':')
		if k < 6 {
			b = append(b, cell...)
		} else {
			b = strconv.AppendQuote(b, string(cell))
		}
	}
	return append(b, '}', '\n')
}
