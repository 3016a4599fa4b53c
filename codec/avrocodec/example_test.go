package avrocodec_test

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/leatgo/leat/codec"
	"github.com/leatgo/leat/codec/avrocodec"
)

type Venta struct {
	VentaID int64 `leat:"venta_id,key"`
	Fecha   time.Time
	Nota    *string
}

// A schema registry, here an embedded one, has the schema that a value was written with.
func ExampleNew() {
	registry := srfake.New()
	defer registry.Close()
	c := avrocodec.New(avrocodec.Config[Venta]{
		Registry: codec.NewRegistry(sr.URLs(registry.URL())),
		Register: true,
	})
	ctx := context.Background()
	value, err := c.Encode(ctx, "ventas", nil, &Venta{VentaID: 7, Fecha: time.UnixMilli(1767323045678)})
	if err != nil {
		panic(err)
	}
	fmt.Printf("% x\n", value)
	var got Venta
	if err := c.Decode(ctx, "ventas", value, &got); err != nil {
		panic(err)
	}
	fmt.Println(got.VentaID, got.Fecha, got.Nota)
	fmt.Println(registry.SubjectExists("ventas-value"))
	// Output:
	// 00 00 00 00 01 0e e0 ae ba e5 de d7 a3 06 00
	// 7 2026-01-02 03:04:05.678 +0000 UTC <nil>
	// true
}

// Without a registry all values are of one schema.
func ExampleNew_withoutRegistry() {
	schema, err := avrocodec.Derive[Venta]("com.acme.Venta")
	if err != nil {
		panic(err)
	}
	c := avrocodec.New(avrocodec.Config[Venta]{Schema: schema})
	value, err := c.Encode(context.Background(), "", nil, &Venta{VentaID: 7, Fecha: time.UnixMilli(0)})
	fmt.Printf("% x %v\n", value, err)
	// Output: 0e 00 00 <nil>
}

func ExampleDerive() {
	fmt.Println(avrocodec.Derive[Venta]("com.acme.Venta"))
	// Output: {"type":"record","name":"com.acme.Venta","fields":[{"name":"venta_id","type":"long"},{"name":"fecha","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"nota","type":["null","string"],"default":null}]} <nil>
}
