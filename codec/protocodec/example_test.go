package protocodec_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/leatgo/leat/codec"
	"github.com/leatgo/leat/codec/protocodec"
)

// A row that holds a message, here one of Google's own.
type Row struct {
	When   *timestamppb.Timestamp
	Offset int64 `leat:"@offset"`
}

func ExampleWithin() {
	registry := srfake.New()
	defer registry.Close()
	c := protocodec.Within(protocodec.Config{
		Registry: codec.NewRegistry(sr.URLs(registry.URL())),
		Register: true,
	}, func(r *Row) **timestamppb.Timestamp { return &r.When })
	ctx := context.Background()
	value, err := c.Encode(ctx, "tiempos", nil, &Row{When: &timestamppb.Timestamp{Seconds: 7}})
	if err != nil {
		panic(err)
	}
	fmt.Printf("% x\n", value)
	var got Row
	err = c.Decode(ctx, "tiempos", value, &got)
	fmt.Println(got.When.GetSeconds(), err)
	// Output:
	// 00 00 00 00 01 00 08 07
	// 7 <nil>
}

// A row that is a message, and values without a registry.
func ExampleNew() {
	c := protocodec.New[timestamppb.Timestamp](protocodec.Config{})
	value, err := c.Encode(context.Background(), "tiempos", nil, &timestamppb.Timestamp{Seconds: 7})
	fmt.Printf("% x %v\n", value, err)
	// Output: 08 07 <nil>
}
