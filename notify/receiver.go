package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// receiver is where messages go.
type receiver struct {
	label string // for logs and errors: no secrets; "" is the log
	// send makes one attempt and ends with ctx. Its errors hold no secrets.
	send func(ctx context.Context, m message) error
}

// refused is an error that another attempt would meet again.
type refused struct{ error }

func isRefused(err error) bool {
	var r refused
	return errors.As(err, &r)
}

// remark is an error beside which the message was taken.
type remark struct{ error }

func isRemark(err error) bool {
	var r remark
	return errors.As(err, &r)
}

// busy is an error of a receiver that says when to come again.
type busy struct {
	error
	wait time.Duration
}

// maxAsked bounds what a receiver may ask for.
const maxAsked = 10 * time.Minute

func askedWait(err error) time.Duration {
	var b busy
	if errors.As(err, &b) {
		return min(b.wait, maxAsked)
	}
	return 0
}

// newReceiver is parseReceiver for those who did not call Validate: each message
// goes to the log, with the reason.
func newReceiver(raw string, log func() *slog.Logger) receiver {
	if raw == "" {
		return receiver{send: func(ctx context.Context, m message) error {
			log().Log(ctx, m.level, m.line(), "notify", m.kind)
			return nil
		}}
	}
	to, err := parseReceiver(raw)
	if err != nil {
		return receiver{label: "Config.URL", send: func(context.Context, message) error { return refused{err} }}
	}
	return to
}

// parseReceiver does no I/O.
func parseReceiver(raw string) (receiver, error) {
	if raw == "" {
		return receiver{}, nil
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme == "" {
		// The parser's error quotes what it stumbled over, a password for instance.
		return receiver{}, errors.New("notify: Config.URL is no URL (it is not shown: it may hold a password); " +
			"write https://…, smtp://… or a form of shoutrrr, and special characters as %XX")
	}
	switch strings.ToLower(u.Scheme) {
	case "http", "https":
		if u.Host == "" {
			return receiver{}, fmt.Errorf("notify: Config.URL: %s:// without a host", u.Scheme)
		}
		return receiver{u.Scheme + "://" + u.Host, webhook(raw)}, nil
	case "smtp":
		return mail(u)
	}
	return shoutrrr(raw, u)
}

// client follows no redirects: a POST would come out as a GET without a body.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func webhook(to string) func(context.Context, message) error {
	return func(ctx context.Context, m message) error {
		body, err := json.Marshal(map[string]string{"text": m.text()})
		if err != nil {
			return refused{err}
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(body))
		if err != nil {
			return refused{errors.New("the URL makes no request")}
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			var withURL *url.Error // the path of a webhook is its password
			if errors.As(err, &withURL) {
				err = withURL.Err
			}
			if ctx.Err() != nil {
				err = errors.New("no answer in time")
			}
			return err
		}
		defer resp.Body.Close()
		// So that the connection can serve again. The text is not shown: it may
		// repeat the request.
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10))
		return statusError(resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

// statusError sorts the answers of HTTP servers (rule B8).
func statusError(status int, retryAfter string) error {
	err := fmt.Errorf("the receiver answered %d %s", status, http.StatusText(status))
	switch {
	case status >= 200 && status < 300:
		return nil
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status == http.StatusTooManyRequests, status >= 500:
		if s, bad := strconv.Atoi(retryAfter); bad == nil {
			return busy{err, time.Duration(min(s, int(maxAsked/time.Second))) * time.Second}
		}
		if at, bad := http.ParseTime(retryAfter); bad == nil {
			return busy{err, time.Until(at)}
		}
		return err
	}
	return refused{err}
}
