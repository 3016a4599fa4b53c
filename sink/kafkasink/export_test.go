package kafkasink

import "time"

func init() { unknownWait = 300 * time.Millisecond }
