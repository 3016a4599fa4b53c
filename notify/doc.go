// Package notify tells people what becomes of a pipeline: in the log, by a
// webhook, by mail, or in a chat.
//
//	n := notify.New(notify.Config{URL: url, Level: slog.LevelWarn, Pipeline: "ventas"})
//	if err := n.Validate(); err != nil { … } // before anything starts
//	p := leat.New("ventas", leat.Config{Observe: n.Observe})
//	err := p.Run(ctx)
//	closing, cancel := context.WithTimeout(context.Background(), 10*time.Second) // ctx may have ended
//	err = errors.Join(err, n.Close(closing))
//
// # What is told
//
//	Info   the pipeline started; stopped cleanly; a file is done; a file was skipped
//	Warn   a node has been unavailable, or the pipeline has been going back to its
//	       last checkpoint, for longer than Config.Patience; and the end of that
//	Error  a file failed or was refused; the pipeline stopped with an error; the
//	       circuit breaker opened (rule B7)
//
// Files come through [Notifier.File], news of the program itself through
// [Notifier.Send], all else through [Notifier.Observe].
//
// # Where it goes
//
//	""                       Config.Logger
//	http://… https://…       POST of {"text": "…"}; Slack, Mattermost, Rocket.Chat and
//	                         Google Chat take it at the URL of an incoming webhook
//	smtp://user:password@host:587/?from=a@example.com&to=b@example.com,c@example.com
//	slack:// teams:// discord:// telegram:// ntfy:// generic+https:// …
//	                         the URL forms of github.com/nicholas-fedor/shoutrrr
//
// Mail uses shoutrrr's form of the URL, but not its sender, which has no time limit
// after the connection is made and, when one of several recipients is refused,
// can't be asked again without mailing the others twice.
//
// # What it never does
//
// It never holds the pipeline: what is told is put into a bounded queue, and one
// goroutine, which lives only while something waits, sends it. News of one kind
// within Config.Window become one message with a count and the first few of them,
// and a second message of the kind waits for Config.Every: a thousand files that
// fail are one message. When the queue is full, the oldest of the lowest level is
// dropped, and the next message that arrives says how many were.
//
// What can't be sent is tried again, with backoff, for Config.GiveUp, unless the
// receiver refused it; what was not delivered in the end is in the log. A message
// whose answer was lost is sent again: it may arrive twice.
//
// Texts hold names, places, classes and counts, and what an error says only where it
// can't quote a row; the log, the ledger and the dead letters have the rest. URLs
// hold passwords and tokens: no text, log line or error has more of one than its
// scheme and, for webhooks and mail, its host.
package notify
