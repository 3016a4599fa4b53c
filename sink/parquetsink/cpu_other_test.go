//go:build !unix

package parquetsink

import "time"

// cpuTime is not known here.
func cpuTime() time.Duration { return 0 }
