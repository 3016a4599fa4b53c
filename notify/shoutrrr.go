package notify

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/nicholas-fedor/shoutrrr/pkg/router"
	"github.com/nicholas-fedor/shoutrrr/pkg/types"
	"github.com/nicholas-fedor/shoutrrr/pkg/util/jsonclient"
)

// maxHanging bounds the attempts that were left alone because the service did not
// come back in time: the library's Send has no context, and some services wait for
// ever.
const maxHanging = 4

// shoutrrr is a receiver of the library's.
func shoutrrr(raw string, u *url.URL) (receiver, error) {
	hide := hider(raw)
	scheme, _, _ := strings.Cut(strings.ToLower(u.Scheme), "+")
	if scheme == "logger" {
		return receiver{}, errors.New("notify: Config.URL: there is no receiver logger://; leave the URL empty for the log")
	}
	if _, err := new(router.ServiceRouter).NewService(scheme); err != nil {
		return receiver{}, fmt.Errorf("notify: Config.URL: no receiver is called %q; see the services of github.com/nicholas-fedor/shoutrrr", scheme)
	}
	if scheme != "matrix" { // which would log in
		if _, err := new(router.ServiceRouter).Locate(raw); err != nil {
			return receiver{}, fmt.Errorf("notify: Config.URL of %s: %s", scheme, hide(err.Error()))
		}
	}
	slots := make(chan struct{}, maxHanging)
	return receiver{scheme, func(ctx context.Context, m message) error {
		select {
		case slots <- struct{}{}:
		default:
			return fmt.Errorf("%d earlier attempts hang", maxHanging)
		}
		done := make(chan error, 1)
		go func() {
			defer func() { <-slots }()
			done <- guard(func() error {
				// Anew each time: an attempt that hangs may still use the other one.
				service, err := new(router.ServiceRouter).Locate(raw)
				if err != nil {
					return err
				}
				return service.Send(m.text(), &types.Params{})
			})
		}()
		select {
		case err := <-done:
			return shoutrrrError(err, hide)
		case <-ctx.Done():
			return errors.New("no answer in time")
		}
	}}, nil
}

// shoutrrrError takes the secrets out of err. What is not known to be final is tried
// again.
func shoutrrrError(err error, hide func(string) string) error {
	if err == nil {
		return nil
	}
	plain := errors.New(hide(err.Error()))
	var status jsonclient.Error
	if errors.As(err, &status) && status.StatusCode >= 300 && isRefused(statusError(status.StatusCode, "")) {
		return refused{plain}
	}
	return plain
}

// guard turns a panic into an error: a faulty service must not take the program
// down. The value is not shown, it may hold anything.
func guard(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the service panicked with a %T", r)
		}
	}()
	return f()
}

var (
	anyURL    = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]*`)
	delimiter = regexp.MustCompile(`[^A-Za-z0-9_~!$*]+`)
	component = regexp.MustCompile(`[:/?#@&=]+`)
)

// hider makes a function that takes URLs, and every part of raw, out of texts. The
// library's errors quote URLs, and services build other URLs from the parts.
func hider(raw string) func(string) string {
	var parts []string
	for _, text := range []string{raw, unescape(url.PathUnescape, raw), unescape(url.QueryUnescape, raw)} {
		_, text, _ = strings.Cut(text, ":") // the scheme is no secret
		parts = append(parts, component.Split(text, -1)...)
		parts = append(parts, delimiter.Split(text, -1)...)
	}
	if u, err := url.Parse(raw); err == nil {
		password, _ := u.User.Password()
		parts = append(parts, u.User.Username(), password)
	}
	return hiding(parts...)
}

// hiding makes a function that takes URLs and the parts out of texts.
func hiding(parts ...string) func(string) string {
	parts = slices.DeleteFunc(slices.Clone(parts), func(p string) bool { return len(p) < 3 }) // "a" would hide all
	slices.SortFunc(parts, func(a, b string) int { return len(b) - len(a) })                  // the longest first
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	var secret *regexp.Regexp
	if len(parts) > 0 {
		secret = regexp.MustCompile("(?i)" + strings.Join(parts, "|"))
	}
	return func(s string) string {
		s = anyURL.ReplaceAllString(s, "(URL)")
		if secret != nil {
			s = secret.ReplaceAllString(s, "…")
		}
		return clean(s, maxText)
	}
}

func unescape(by func(string) (string, error), s string) string {
	if out, err := by(s); err == nil {
		return out
	}
	return s
}
