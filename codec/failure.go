package codec

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"unicode"

	"github.com/twmb/franz-go/pkg/sr"

	"github.com/leatgo/leat"
)

// failure makes an error of what the client gave: transient, and without what the client's
// own text may hold, such as the password in a URL.
func failure(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var re *sr.ResponseError
	var ue *url.Error
	switch {
	case errors.As(err, &ue) && ue.Op == "parse":
		// What it quotes as a port, say, may be the beginning of a password.
		return leat.Transient(fmt.Errorf("schema registry: %s: one of sr.URLs is no URL; in a name or password, signs such as / # ? @ are written with a percent sign (or use sr.BasicAuth)", what))
	case errors.As(err, &re):
		msg := re.Message
		if msg == "" {
			msg = "no message"
		}
		return leat.Transient(fmt.Errorf("schema registry: %s: HTTP %d (%d): %s%s", what, re.StatusCode, re.ErrorCode, redact(msg), hint(re.StatusCode)))
	case errors.As(err, &ue):
		// ue.URL is without the password; the text around it is not.
		return leat.Transient(fmt.Errorf("schema registry: %s: %s: %w", what, host(ue.URL), ue.Err))
	}
	return leat.Transient(fmt.Errorf("schema registry: %s: %s", what, redact(err.Error())))
}

func hint(status int) string {
	switch status {
	case 401, 403:
		return ": check the registry's credentials (sr.BasicAuth, sr.BearerToken)"
	case 409:
		return ": the subject's compatibility level does not allow this change of the schema"
	}
	return ""
}

func host(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "the registry"
	}
	return u.Host
}

var userinfo = regexp.MustCompile(`//[^/\s"]*@`)

const maxMessage = 300

// redact cuts a text of the registry's or the client's to a line of bounded length, without
// the credentials of URLs.
func redact(s string) string {
	s = userinfo.ReplaceAllString(s, "//")
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}
