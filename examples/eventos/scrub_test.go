package main

import "github.com/leatgo/leat/internal/engine"

// Who reads rows after they were given back fails its test.
func init() { engine.Scrub = true }
