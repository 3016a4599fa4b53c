// Package parquetgoengine is an engine of parquetsink built on the column writers of
// github.com/parquet-go/parquet-go:
//
//	parquetsink.Config[Venta]{Dir: "lake", Engine: parquetgoengine.New()}
//
// Its files hold the same values as those of the default engine, which is faster and
// is tested against this one. Use it when a reader has trouble with the other's
// files: integers are plain here, never differences of each other.
package parquetgoengine
