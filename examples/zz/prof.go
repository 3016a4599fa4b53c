package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"time"
)

func init() {
	if d := os.Getenv("PROF"); d != "" {
		f, _ := os.Create(d + "/cpu.prof")
		_ = pprof.StartCPUProfile(f)
		go func() {
			var max uint64
			for {
				time.Sleep(100 * time.Millisecond)
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				if m.HeapInuse > max+max/20 {
					max = m.HeapInuse
					h, _ := os.Create(d + "/heap.prof")
					_ = pprof.WriteHeapProfile(h)
					h.Close()
					fmt.Fprintf(os.Stderr, "heap inuse %d MiB alloc %d sys %d live-next %d\n", m.HeapInuse>>20, m.HeapAlloc>>20, m.Sys>>20, m.NextGC>>20)
				}
			}
		}()
	}
}

func budget() int64 {
	var n int64
	fmt.Sscan(os.Getenv("BUDGET"), &n)
	return n << 20
}
