//go:build !linux

package parquetsource

import "errors"

// limitMemory is not proven here: Validate has refused Isolate.
func limitMemory(int64) error { return errors.New("parquetsource: Isolate works on Linux only") }
