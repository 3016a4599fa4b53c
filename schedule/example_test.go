package schedule_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leatgo/leat/schedule"
)

func ExampleParse() {
	spec, err := schedule.Parse("TZ=UTC 0 6 * * 1-5")
	if err != nil {
		fmt.Println(err)
		return
	}
	friday := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	fmt.Println(spec, "→", spec.Next(friday).Format(time.RFC1123))

	_, err = schedule.Parse("0 6 31 2 *")
	fmt.Println(err)
	// Output:
	// TZ=UTC 0 6 * * 1-5 → Mon, 23 Nov 2026 06:00:00 UTC
	// schedule "0 6 31 2 *": that time never comes
}

func ExampleRun() {
	spec, err := schedule.Parse("1s")
	if err != nil {
		fmt.Println(err)
		return
	}
	runs := 0
	err = schedule.Run(context.Background(), schedule.Config{Spec: spec, Now: true}, func(context.Context) error {
		runs++
		fmt.Println("run", runs) // a pipeline is built and run here
		if runs == 2 {
			return errors.New("enough")
		}
		return nil
	})
	fmt.Println(err)
	// Output:
	// run 1
	// run 2
	// enough
}
