// Package schedule runs a job again and again: at intervals, or at the times of a
// cron line.
//
//	spec, err := schedule.Parse("0 6 * * 1-5") // a wrong one is an error here, before anything starts
//	err = schedule.Run(ctx, schedule.Config{Spec: spec}, func(ctx context.Context) error {
//		return build().Run(ctx) // a pipeline can be run once: build one for each run
//	})
//
// # Specs
//
//	15m  @every 15m         an interval, at least 1 s, from the start of Run on
//	0 6 * * 1-5             minute, hour, day of the month, month, day of the week;
//	                        *  1,2  1-5  */10  mon-fri  jan; 0 is Sunday. When both days
//	                        are restricted, either will do.
//	@hourly @daily @midnight @weekly @monthly @yearly @annually
//	CRON_TZ=America/Bogota 0 6 * * *   (or TZ=) in that zone; else in the local one
//
// A sixth field is refused: programs do not agree whether it is seconds or years.
//
// # Days on which the clocks change
//
// An hour field of * means the passing of time: such a line keeps to its minutes
// through the repeated hour, and the missing one is missing. Any other hour means
// the clock on the wall, so that what is to happen once a day does: in the repeated
// hour only the first time counts, and times that do not exist are made up, once,
// at the moment the clocks jump.
//
// # Runs
//
// Runs never overlap. Those that were due while one was running are skipped, however
// many they were, and the next one is at its own time. A cron line follows the wall
// clock also when that is set; when the machine slept through one or more times,
// there is one run when it wakes.
//
// # Why not gocron's scheduler
//
// Lines are read by github.com/go-co-op/gocron. Its scheduler (v2.21.2) is not used.
// When it shuts down it spins on a processor until the running job ends, and leaves
// it alone after a timeout, while a pipeline must drain. It waits with one timer,
// which does not notice that the clock was set or that the machine slept. When
// clocks change it leaves out a run of "0 * * * *", runs "0,30 1 * * *" four times
// that day, and skips the day of "30 2 * * *".
package schedule
