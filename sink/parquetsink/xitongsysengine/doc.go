// Package xitongsysengine is an engine of parquetsink built on
// github.com/xitongsys/parquet-go, for those who want the files of that library:
//
//	parquetsink.Config[Venta]{Dir: "lake", Engine: xitongsysengine.New()}
//
// It writes every type that parquetsink has, and the files read the same. The
// default engine is several times as fast, has dictionaries, and puts the
// smallest and largest values of columns into its files; this one leaves those
// out, because the library gets them wrong for lists and nulls.
//
// The library is linked only by programs that import this package.
package xitongsysengine
