package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/quotedprintable"
	"net"
	netmail "net/mail"
	"net/smtp"
	"net/textproto"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	shoutmail "github.com/nicholas-fedor/shoutrrr/pkg/services/email/smtp"
	"github.com/nicholas-fedor/shoutrrr/pkg/util"
)

// mailer sends by SMTP; see the package on why the library's sender is not used.
type mailer struct {
	*shoutmail.Config
	hide func(string) string
}

// mail is the receiver of smtp:// in the library's form.
func mail(u *url.URL) (receiver, error) {
	m, err := newMailer(u)
	if err != nil {
		return receiver{}, err
	}
	return receiver{"smtp://" + u.Host, m.send}, nil
}

func newMailer(u *url.URL) (*mailer, error) {
	const where = "notify: Config.URL of smtp: "
	var service shoutmail.Service
	if err := service.Initialize(u, util.DiscardLogger); err != nil {
		return nil, errors.New(where + hider(u.String())(err.Error()))
	}
	c := service.Config
	c.FixEmailTags()
	var faults []error
	if c.Host == "" {
		faults = append(faults, errors.New(where+"it has no host"))
	}
	if c.UseHTML {
		faults = append(faults, errors.New(where+"messages are plain text; leave usehtml out"))
	}
	for _, a := range append([]string{c.FromAddress}, c.ToAddresses...) {
		if parsed, err := netmail.ParseAddress(a); err != nil || parsed.Address != a {
			faults = append(faults, errors.New(where+"an address in from or to is not one"))
		}
	}
	return &mailer{c, hiding(c.Username, c.Password)}, errors.Join(faults...)
}

func (m *mailer) send(ctx context.Context, msg message) error {
	// The session waits for the connection only, so that ending this ends it.
	conn, err := m.dial(ctx)
	if err != nil {
		return m.fault("connect", err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	step, err := m.session(conn, msg)
	if err != nil && ctx.Err() != nil && !isRemark(err) {
		return fmt.Errorf("%s: no answer in time", step)
	}
	return m.fault(step, err)
}

func (m *mailer) dial(ctx context.Context) (net.Conn, error) {
	address := net.JoinHostPort(m.Host, strconv.Itoa(int(m.Port)))
	if m.Encryption == shoutmail.EncImplicitTLS || m.Encryption == shoutmail.EncAuto && m.Port == shoutmail.ImplicitTLSPort {
		return (&tls.Dialer{Config: m.tls()}).DialContext(ctx, "tcp", address)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", address)
}

func (m *mailer) tls() *tls.Config {
	return &tls.Config{ServerName: m.Host, MinVersion: tls.VersionTLS12, InsecureSkipVerify: m.SkipTLSVerify} //nolint:gosec // as the user asked
}

// session sends the mail to all recipients at once: either it was taken for those
// that the server knows, or for none, and can be sent again.
func (m *mailer) session(conn net.Conn, msg message) (step string, err error) {
	c, err := smtp.NewClient(conn, m.Host)
	if err != nil {
		return "greeting", err
	}
	name := m.ClientHost
	if name == "auto" {
		if name, err = os.Hostname(); err != nil {
			name = "localhost"
		}
	}
	if err := c.Hello(name); err != nil {
		return "greeting", err
	}
	_, encrypted := conn.(*tls.Conn)
	if m.UseStartTLS && m.Encryption != shoutmail.EncNone && !encrypted {
		switch offered, _ := c.Extension("STARTTLS"); {
		case offered:
			if err := c.StartTLS(m.tls()); err != nil {
				return "STARTTLS", err
			}
		case m.RequireStartTLS || m.Encryption == shoutmail.EncExplicitTLS:
			return "STARTTLS", refused{errors.New("the server does not offer it")}
		}
	}
	if auth := m.auth(); auth != nil {
		if err := c.Auth(auth); err != nil {
			var answer *textproto.Error
			var network net.Error
			if !errors.As(err, &answer) && !errors.As(err, &network) && !errors.Is(err, io.EOF) {
				err = refused{err} // smtp itself: the connection is not encrypted, for instance
			}
			return "authentication", err
		}
	}
	if err := c.Mail(m.FromAddress); err != nil {
		return "sender", err
	}
	var taken []string
	var no error
	for _, to := range m.ToAddresses {
		err := c.Rcpt(to)
		switch {
		case err == nil:
			taken = append(taken, to)
		case !final(err):
			return "recipient", err // none of them has anything yet
		default:
			no = err
		}
	}
	if len(taken) == 0 {
		return "recipient", no
	}
	w, err := c.Data()
	if err != nil {
		return "mail", err
	}
	if _, err := w.Write(m.text(msg)); err != nil {
		return "mail", err
	}
	if err := w.Close(); err != nil {
		return "mail", err
	}
	_ = c.Quit() // it has been taken
	if no != nil {
		return fmt.Sprintf("%d of %d recipients refused", len(m.ToAddresses)-len(taken), len(m.ToAddresses)), remark{no}
	}
	return "", nil
}

func (m *mailer) auth() smtp.Auth {
	switch {
	case m.Auth == shoutmail.AuthCRAMMD5:
		return smtp.CRAMMD5Auth(m.Username, m.Password)
	case m.Auth == shoutmail.AuthOAuth2:
		return shoutmail.OAuth2Auth(m.Username, m.Password)
	case m.Auth == shoutmail.AuthPlain:
		return smtp.PlainAuth("", m.Username, m.Password, m.Host)
	}
	return nil
}

// text is the mail with its headers.
func (m *mailer) text(msg message) []byte {
	var b bytes.Buffer
	from := netmail.Address{Name: m.FromName, Address: m.FromAddress}
	_, domain, _ := strings.Cut(m.FromAddress, "@")
	fmt.Fprintf(&b, "From: %s\r\nTo: %s\r\n", from.String(), strings.Join(m.ToAddresses, ", "))
	fmt.Fprintf(&b, "Subject: %s\r\n", mime.QEncoding.Encode("utf-8", msg.title))
	fmt.Fprintf(&b, "Date: %s\r\nMessage-ID: <%s@%s>\r\n", time.Now().Format(time.RFC1123Z), rand.Text(), cmp.Or(domain, "localhost"))
	b.WriteString("MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\nAuto-Submitted: auto-generated\r\n\r\n")
	body := quotedprintable.NewWriter(&b)
	_, _ = body.Write([]byte(strings.ReplaceAll(msg.text(), "\n", "\r\n") + "\r\n")) // to memory
	_ = body.Close()
	return b.Bytes()
}

// final tells whether the server will say the same again.
func final(err error) bool {
	var answer *textproto.Error
	return isRefused(err) || errors.As(err, &answer) && answer.Code >= 500
}

func (m *mailer) fault(step string, err error) error {
	if err == nil {
		return nil
	}
	plain := fmt.Errorf("%s: %s", step, m.hide(err.Error()))
	switch {
	case isRemark(err):
		return remark{plain}
	case final(err):
		return refused{plain}
	}
	return plain
}
