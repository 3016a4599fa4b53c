//go:build unix && (amd64 || arm64)

package store

// mapped is how much address space the file gets; it costs none of the memory.
const mapped = 1 << 30
