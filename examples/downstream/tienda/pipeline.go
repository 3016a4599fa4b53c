// Package tienda is the pipeline of a user: sales in CSV files are validated, mapped and
// stored.
package tienda

import (
	"errors"
	"math"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/stage"
)

// Venta is a sale as it comes.
type Venta struct {
	ID       int64   `leat:"id"`
	Producto string  `leat:"producto" validate:"required"`
	Cantidad int     `leat:"cantidad" validate:"gt=0"`
	Precio   float64 `leat:"precio" validate:"gte=0"`
}

// Linea is a sale as it is stored.
type Linea struct {
	ID       int64
	Producto string
	Centavos int64
}

// Pipeline builds the pipeline. Its ends are parameters, so that a test can put others
// there.
func Pipeline(c leat.Config, from leat.Source[Venta], to ...leat.Sink[Linea]) *leat.Pipeline {
	p := leat.New("tienda", c)
	ventas := leat.From(p, from)
	good := leat.Via(ventas, "validate", stage.Validate[Venta]())
	lineas := leat.Via(good, "total", stage.Map(total))
	leat.To(lineas, to...)
	return p
}

func total(v Venta) (Linea, error) {
	cents := math.Round(v.Precio * float64(v.Cantidad) * 100)
	if cents > 1e12 {
		return Linea{}, errors.New("no sale is that large")
	}
	return Linea{v.ID, v.Producto, int64(cents)}, nil
}
