//go:build !unix || !(amd64 || arm64)

package store

// mapped is 0 where mapping more than the file has would make the file larger, or where
// addresses are short.
const mapped = 0
