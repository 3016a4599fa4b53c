package codec_test

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
)

// An unknown id is the value's fault; a registry that is down is not.
func ExampleNewRegistry() {
	fake := srfake.New()
	registry := codec.NewRegistry(sr.URLs(fake.URL()), sr.BasicAuth("user", "password"))
	_, err := registry.Schema(context.Background(), 42)
	fmt.Println(err, leat.IsTransient(err))
	fake.Close()
	_, err = registry.Schema(context.Background(), 42)
	fmt.Println(leat.IsTransient(err))
	// Output:
	// the schema registry has no schema with the id 42, which the value names false
	// true
}
