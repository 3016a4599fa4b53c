package main

import (
	"time"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/stage"
)

// Venta is one line of a sales file, and its validate tags are the contract.
type Venta struct {
	VentaID        int64     `leat:"venta_id" validate:"gte=0"`
	ClienteID      int64     `leat:"cliente_id" validate:"gt=0"`
	ProductoID     int64     `leat:"producto_id" validate:"gt=0"`
	Cantidad       int64     `leat:"cantidad" validate:"gte=1"`
	PrecioUnitario float64   `leat:"precio_unitario" validate:"gte=0"`
	Total          float64   `leat:"total" validate:"gte=0"`
	FechaVenta     time.Time `leat:"fecha_venta,time=2006-01-02 15:04:05"`
	MetodoPago     string    `leat:"metodo_pago" validate:"oneof=tarjeta efectivo transferencia"`
	Estado         string    `leat:"estado" validate:"oneof=completada pendiente cancelada"`

	Archivo string `leat:"@file"` // where the row came from: no column of any sink
}

// Rica is a sale with what the table knows beyond the file.
type Rica struct {
	Venta
	Anio           int     `leat:"anio"`
	Mes            string  `leat:"mes"` // 2025-01
	TicketUnitario float64 `leat:"ticket_unitario"`
}

// ventas is the pipeline without its ends, so that main and the tests share it.
func ventas(c leat.Config, src leat.Source[Venta], sinks ...leat.Sink[Rica]) *leat.Pipeline {
	p := leat.New("ventas", c)
	rows := leat.From(p, src)
	good := leat.Via(rows, "contract", stage.Validate[Venta]())
	rich := leat.Via(good, "enrich", stage.Map(enrich))
	leat.To(rich, sinks...)
	return p
}

// enrich may divide: the contract has made sure that cantidad is at least 1.
func enrich(v Venta) (Rica, error) {
	return Rica{
		Venta:          v,
		Anio:           v.FechaVenta.Year(),
		Mes:            v.FechaVenta.Format("2006-01"),
		TicketUnitario: v.Total / float64(v.Cantidad),
	}, nil
}
