package notify

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/leatgo/leat"
)

// Longest parts of a text, in characters.
const (
	maxName = 120
	maxText = 300
)

// message is what a receiver gets.
type message struct {
	level slog.Level
	kind  string
	title string
	more  []string // further lines
}

func (m message) text() string { return strings.Join(append([]string{m.title}, m.more...), "\n") }
func (m message) line() string { return strings.Join(append([]string{m.title}, m.more...), "; ") }

// message writes g down. It is called again for each attempt: g may have grown.
func (n *Notifier) message(g *group, dropped int, now time.Time) message {
	m := message{level: g.level, kind: g.kind}
	var head []string
	if g.count == 1 {
		if g.one != "" {
			head = append(head, g.one)
		}
		head = append(head, g.items...)
	} else {
		many := fmt.Sprintf(g.many, g.count)
		if g.rows > 0 || g.unreadable > 0 {
			many += fmt.Sprintf(", %d rows, %d unreadable", g.rows, g.unreadable)
		}
		head = append(head, many)
		m.more = append(m.more, g.items...)
		if rest := g.count - len(g.items); rest > 0 && len(g.items) > 0 {
			m.more = append(m.more, fmt.Sprintf("and %d more", rest))
		}
	}
	m.title = strings.Join(head, ": ")
	if n.c.Pipeline != "" {
		m.title = "[" + clean(n.c.Pipeline, maxName) + "] " + m.title
	}
	if now.Sub(g.first) > n.c.Window+n.c.Every+time.Minute { // old news
		m.title += g.first.Format(" (first at 2006-01-02 15:04:05 -07:00)")
	}
	switch {
	case dropped == 1:
		m.more = append(m.more, "1 more message was dropped")
	case dropped > 1:
		m.more = append(m.more, fmt.Sprintf("%d more messages were dropped", dropped))
	}
	return m
}

// mentions are the characters by which chats notify everybody, or make links.
// Names of files come from strangers.
var mentions = strings.NewReplacer("<", "‹", ">", "›", "@", "＠")

// clean makes s one line of at most limit characters without effects of its own.
func clean(s string, limit int) string {
	runes := []rune(mentions.Replace(strings.ToValidUTF8(s, "?")))
	for i, r := range runes {
		if !unicode.IsPrint(r) { // line ends, and marks that turn the direction of writing
			runes[i] = ' '
		}
	}
	if len(runes) > limit {
		runes = append(runes[:limit-1], '…')
	}
	return string(runes)
}

func round(d time.Duration) time.Duration {
	if d >= time.Minute {
		return d.Round(time.Second)
	}
	return d.Round(time.Millisecond)
}

// brief is an error that knows what of it a log may show.
type brief interface{ ForLog() string }

// cause is what of err can't quote a row; "" when nothing is known to be safe.
func cause(err error) string {
	var (
		short   brief
		field   *leat.FieldError
		dns     *net.DNSError
		op      *net.OpError
		path    *fs.PathError
		errno   syscall.Errno
		timeout net.Error
	)
	switch {
	case err == nil:
		return ""
	case errors.As(err, &short):
		return clean(short.ForLog(), maxText)
	case errors.As(err, &field):
		return clean(fmt.Sprintf("column %q, rule %q", field.Column, field.Rule), maxText)
	case errors.Is(err, leat.ErrFenced):
		return "another process has taken the partition over"
	case errors.As(err, &dns):
		return clean(dns.Error(), maxText)
	case errors.As(err, &op) && errors.As(op.Err, &errno):
		text := op.Op + " " + op.Net
		if op.Addr != nil {
			text += " " + op.Addr.String()
		}
		return clean(text+": "+errno.Error(), maxText)
	case errors.As(err, &path) && errors.As(path.Err, &errno):
		return clean(path.Op+" "+path.Path+": "+errno.Error(), maxText)
	case errors.As(err, &errno):
		return clean(errno.Error(), maxText)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "it took too long"
	case errors.Is(err, leat.ErrAborted):
		return "the open commit is gone"
	}
	return ""
}

// fileCause is what may be told of a file's error. As for logs, the text is taken
// as it is unless the error says that it quotes the file (ForLog, FieldError).
func fileCause(err error) string {
	var (
		short brief
		field *leat.FieldError
	)
	if err == nil {
		return ""
	}
	if errors.As(err, &short) || errors.As(err, &field) {
		return cause(err)
	}
	return clean(err.Error(), maxText)
}

// errorText is what may be told of the error that ended a pipeline.
func errorText(err error) string {
	why := cause(err)
	if why == "" {
		why = "the log has the cause"
	}
	return strings.Join(append(place(err), why), ", ")
}

func place(err error) (parts []string) {
	var placed *leat.Error
	if !errors.As(err, &placed) {
		return nil
	}
	if placed.Node != "" {
		parts = append(parts, "at "+clean(placed.Node, maxName))
	}
	if placed.Partition != "" && placed.Partition != placed.Node {
		parts = append(parts, "partition "+clean(placed.Partition, maxName))
	}
	if placed.Class != "" {
		parts = append(parts, "class "+string(placed.Class))
	}
	return parts
}

// breakerText is what the engine says about its breaker: counts and advice.
func breakerText(err error) string {
	var walk func(err error) error // to the error that wraps leat.ErrBreakerOpen itself
	walk = func(err error) error {
		var inner []error
		switch u := err.(type) {
		case interface{ Unwrap() error }:
			inner = []error{u.Unwrap()}
		case interface{ Unwrap() []error }:
			inner = u.Unwrap()
		}
		for _, e := range inner {
			if e != leat.ErrBreakerOpen && errors.Is(e, leat.ErrBreakerOpen) {
				return walk(e)
			}
		}
		return err
	}
	why := strings.TrimPrefix(walk(err).Error(), leat.ErrBreakerOpen.Error()+": ")
	return strings.Join(append(place(err), clean(why, maxText)), ", ")
}
