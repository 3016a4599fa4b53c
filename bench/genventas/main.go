// Command genventas writes N rows of sales as CSV to standard output, the input
// of the benchmarks: always the same for the same N.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"time"
)

func main() {
	n, err := strconv.Atoi(append(os.Args, "")[1])
	if err != nil || len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: genventas ROWS > FILE")
		os.Exit(2)
	}
	pays := []string{"tarjeta", "efectivo", "transferencia"}
	states := []string{"completada", "pendiente", "cancelada"}
	first := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	w := bufio.NewWriterSize(os.Stdout, 1<<20)
	fmt.Fprintln(w, "venta_id,cliente_id,producto_id,cantidad,precio_unitario,total,fecha_venta,metodo_pago,estado")
	var b []byte
	for j := range n {
		units := j%5 + 1
		price := float64(j*37%50000)/100 + 1
		b = b[:0]
		for _, v := range []int{j, j*7919%50000 + 1, j%977 + 1, units} {
			b = append(strconv.AppendInt(b, int64(v), 10), ',')
		}
		b = append(strconv.AppendFloat(b, price, 'f', 2, 64), ',')
		b = append(strconv.AppendFloat(b, price*float64(units), 'f', 2, 64), ',')
		b = append(first.Add(time.Duration(20*j)*time.Second).AppendFormat(b, "2006-01-02 15:04:05"), ',')
		b = append(append(b, pays[j%3]...), ',')
		b = append(append(b, states[j/3%3]...), '\n')
		_, _ = w.Write(b) // bufio keeps the error for Flush
	}
	if err := w.Flush(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
