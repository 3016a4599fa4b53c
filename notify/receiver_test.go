package notify

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"mime/quotedprintable"
	"net"
	"net/http"
	"net/http/httptest"
	netmail "net/mail"
	"net/textproto"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// to is a notifier that sends to url at once, and its log.
func to(t *testing.T, url string, c Config) (*Notifier, *logBuffer) {
	t.Helper()
	logs := &logBuffer{}
	c.URL, c.Window, c.Every = url, -1, -1
	c.Logger = slog.New(slog.NewTextHandler(logs, &slog.HandlerOptions{Level: slog.LevelDebug}))
	n := New(c)
	require.NoError(t, n.Validate())
	n.first = 5 * time.Millisecond
	return n, logs
}

// server answers with what answer says and keeps what it got.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	got    []string
	header http.Header
	path   string
}

func newServer(t *testing.T, answer func(try int, w http.ResponseWriter)) *server {
	s := &server{}
	var tries atomic.Int64
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.got, s.header, s.path = append(s.got, string(body)), r.Header.Clone(), r.URL.RequestURI()
		s.mu.Unlock()
		answer(int(tries.Add(1)), w)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) bodies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.got...)
}

func ok(_ int, w http.ResponseWriter) { _, _ = io.WriteString(w, "ok") }

func TestWebhook(t *testing.T) {
	t.Parallel()
	s := newServer(t, ok)
	n, logs := to(t, strings.Replace(s.URL, "http://", "http://me:pass-word@", 1)+"/services/T000/B000/TOKEN?key=TOKEN", Config{Pipeline: "ventas"})
	n.Send(Message{Text: `it's "quoted"`})
	n.File(failed("a.csv"))
	require.NoError(t, n.Close(t.Context()))
	require.Equal(t, []string{`{"text":"[ventas] it's \"quoted\""}`, `{"text":"[ventas] file failed: a.csv: no header"}`}, s.bodies())
	require.Equal(t, "application/json", s.header.Get("Content-Type"))
	require.Equal(t, "/services/T000/B000/TOKEN?key=TOKEN", s.path)
	require.Equal(t, "Basic bWU6cGFzcy13b3Jk", s.header.Get("Authorization"))
	require.Empty(t, logs.String())
}

func TestWebhookAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		again  bool // rule B8: transient is tried again, the rest is not
	}{
		{200, false}, {204, false}, {302, false}, {400, false}, {401, false}, {404, false}, {410, false},
		{408, true}, {425, true}, {429, true}, {500, true}, {502, true}, {503, true},
	} {
		t.Run(fmt.Sprint(c.status), func(t *testing.T) {
			t.Parallel()
			s := newServer(t, func(try int, w http.ResponseWriter) {
				if try == 1 {
					w.Header().Set("Location", "/elsewhere")
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, "TOKEN")
				}
			})
			n, logs := to(t, s.URL+"/TOKEN", Config{})
			n.Send(Message{Text: "x"})
			err := n.Close(t.Context())
			switch {
			case c.again:
				require.NoError(t, err)
				require.Len(t, s.bodies(), 2)
				require.Contains(t, logs.String(), fmt.Sprintf("answered %d ", c.status))
			case c.status < 300:
				require.NoError(t, err)
				require.Len(t, s.bodies(), 1)
			default:
				require.Error(t, err)
				require.Len(t, s.bodies(), 1)
				require.Contains(t, logs.String(), fmt.Sprintf("answered %d ", c.status))
			}
			require.NotContains(t, logs.String(), "TOKEN")
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		value string
		want  time.Duration
	}{
		{"", 0}, {"7", 7 * time.Second}, {"-3", 0}, {"99999999999", 10 * time.Minute}, {"soon", 0},
		{time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat), 0},
		{time.Now().Add(time.Hour).UTC().Format(http.TimeFormat), 10 * time.Minute},
	} {
		require.Equal(t, c.want, max(0, askedWait(statusError(429, c.value))), c.value)
	}
}

func TestHangingWebhookTimesOut(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	s := newServer(t, func(try int, w http.ResponseWriter) {
		if try == 1 {
			<-release
		}
	})
	t.Cleanup(func() { close(release) }) // before the server is closed
	n, logs := to(t, s.URL+"/TOKEN", Config{Timeout: 50 * time.Millisecond})
	n.Send(Message{Text: "x"})
	require.NoError(t, n.Close(t.Context()))
	require.Equal(t, []string{`{"text":"x"}`, `{"text":"x"}`}, s.bodies())
	require.Contains(t, logs.String(), "no answer in time")
	require.NotContains(t, logs.String(), "TOKEN")
}

// closedPort is an address at which nobody listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	return l.Addr().String()
}

func TestWebhookIsDownAndComesBack(t *testing.T) {
	t.Parallel()
	addr := closedPort(t)
	n, logs := to(t, "http://"+addr+"/TOKEN", Config{})
	n.Send(Message{Text: "x"})
	require.Eventually(t, func() bool { return strings.Contains(logs.String(), "connection refused") }, 10*time.Second, time.Millisecond)
	l, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}}
	s.Start()
	defer s.Close()
	require.NoError(t, n.Close(t.Context()))
	require.NotContains(t, logs.String(), "TOKEN")
	require.Contains(t, logs.String(), "receiver=http://"+addr)
}

// A service of shoutrrr's that lets us choose the host; those with a host of their
// own (slack, telegram) are not asked in tests.
func TestShoutrrr(t *testing.T) {
	t.Parallel()
	host := func(s *server) string { return strings.TrimPrefix(s.URL, "http://") }
	t.Run("mattermost", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, ok)
		n, logs := to(t, "mattermost://"+host(s)+"/TOKEN?disabletls=yes", Config{Pipeline: "ventas"})
		n.File(failed("a.csv"))
		require.NoError(t, n.Close(t.Context()))
		var got struct{ Text string }
		require.NoError(t, json.Unmarshal([]byte(s.bodies()[0]), &got))
		require.Equal(t, "[ventas] file failed: a.csv: no header", got.Text)
		require.Empty(t, logs.String())
	})
	t.Run("generic custom URL", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, ok)
		n, _ := to(t, "generic+"+s.URL+"/hook", Config{})
		n.Send(Message{Text: "x"})
		require.NoError(t, n.Close(t.Context()))
		require.Equal(t, []string{"x"}, s.bodies())
		require.Equal(t, "/hook", s.path)
	})
	t.Run("outage and recovery", func(t *testing.T) {
		t.Parallel()
		s := newServer(t, func(try int, w http.ResponseWriter) {
			if try < 3 {
				w.WriteHeader(503)
			}
		})
		n, logs := to(t, "mattermost://"+host(s)+"/TOKEN-TOKEN?disabletls=yes", Config{})
		n.Send(Message{Text: "x"})
		require.NoError(t, n.Close(t.Context()))
		require.Len(t, s.bodies(), 3)
		require.NotContains(t, logs.String(), "TOKEN")
	})
	t.Run("connection refused", func(t *testing.T) {
		t.Parallel()
		addr := closedPort(t)
		for _, url := range []string{"mattermost://" + addr + "/TOKEN?disabletls=yes", "gotify://" + addr + "/AzyoeNS.D4iJLVa?disabletls=yes", "generic://" + addr + "/TOKEN?disabletls=yes&@authorization=Bearer+TOKEN"} {
			n, logs := to(t, url, Config{})
			n.Send(Message{Text: "x"})
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			require.Error(t, n.Close(ctx))
			cancel()
			require.Contains(t, logs.String(), "not delivered", url)
			require.NotContains(t, logs.String(), "TOKEN")
			require.NotContains(t, logs.String(), "AzyoeNS")
			require.NotContains(t, logs.String(), "D4iJLVa")
		}
	})
	t.Run("hanging service", func(t *testing.T) {
		t.Parallel()
		release := make(chan struct{})
		s := newServer(t, func(int, http.ResponseWriter) { <-release })
		t.Cleanup(func() { close(release) })
		n, logs := to(t, "generic+"+s.URL+"/TOKEN", Config{Timeout: 10 * time.Millisecond})
		n.Send(Message{Text: "x"})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, n.Close(ctx))
		require.LessOrEqual(t, len(s.bodies()), maxHanging, "no more goroutines than that are left behind")
		require.Contains(t, logs.String(), "no answer in time")
		require.NotContains(t, logs.String(), "TOKEN")
	})
}

func TestHiderHidesWhatServicesMakeOfTheURL(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ url, text string }{
		{"slack://hook:T0000SEC-B0000SEC-XXXXXXXXXSEC@webhook", `Post "https://hooks.slack.com/services/T0000SEC/B0000SEC/XXXXXXXXXSEC": dial tcp`},
		{"slack://hook:T0000SEC-B0000SEC-XXXXXXXXXSEC@webhook", "bad token t0000sec/b0000sec"},
		{"telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=@SECchan", "bot110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw and @SECchan"},
		{"smtp://user:p%40ss%2FSEC@host/?from=a@b", `p@ss/SEC or "p%40ss%2FSEC"`},
		{"generic://h/p?@authorization=Bearer+SECSEC", "Bearer SECSEC"},
	} {
		got := hider(c.url)(c.text)
		require.NotContains(t, strings.ToUpper(got), "SEC", c.url)
		require.NotContains(t, got, "AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw")
		require.NotContains(t, got, "110201543")
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		c    Config
		want string // "" for right
	}{
		{"zero", Config{}, ""},
		{"webhook", Config{URL: "https://hooks.slack.com/services/T/B/X"}, ""},
		{"slack", Config{URL: "slack://hook:WNA3PBYV6-F20DUQND3RQ-Webc4MAvoacrpPakR8phF0zi@webhook"}, ""},
		{"telegram", Config{URL: "telegram://110201543:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw@telegram?chats=@channel"}, ""},
		{"matrix does not log in", Config{URL: "matrix://user:SECRET@127.0.0.1:1/?rooms=!a:b"}, ""},
		{"mail", Config{URL: "smtp://me:SECRET@example.com:587/?from=a@example.com&to=b@example.com,c@example.com"}, ""},
		{"off", Config{Window: -1, Every: -1, Patience: -1}, ""},
		{"negative", Config{Window: -2, Timeout: -1, Queue: -1},
			"notify: Config.Window -2ns is negative\nnotify: Config.Timeout -1ns is negative\nnotify: Config.Queue -1 is negative"},
		{"no URL", Config{URL: "SECRET"}, "notify: Config.URL is no URL"},
		{"unparsable", Config{URL: "https://me:SEC/RET@host"}, "notify: Config.URL is no URL"},
		{"no host", Config{URL: "https:///SECRET"}, "notify: Config.URL: https:// without a host"},
		{"unknown", Config{URL: "pigeon://SECRET"}, `no receiver is called "pigeon"`},
		{"logger", Config{URL: "logger://"}, "leave the URL empty"},
		{"slack token", Config{URL: "slack://hook:SECRET@webhook"}, "notify: Config.URL of slack: "},
		{"mail without addresses", Config{URL: "smtp://me:SECRET@example.com"}, "notify: Config.URL of smtp: fromAddress missing"},
		{"mail with bad address", Config{URL: "smtp://me:SECRET@example.com/?from=a@b&to=SECRET"}, "an address in from or to is not one"},
		{"mail with bad parameter", Config{URL: "smtp://me:SECRET@example.com/?from=a@b&to=a@b&timeout=SECRET"}, "notify: Config.URL of smtp: "},
		{"mail as HTML", Config{URL: "smtp://me:SECRET@example.com/?from=a@b&to=a@b&usehtml=yes"}, "leave usehtml out"},
		{"mail without host", Config{URL: "smtp:///?from=a@b&to=a@b"}, "it has no host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := New(c.c).Validate()
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.NotContains(t, err.Error(), "SECRET")
			require.NotContains(t, err.Error(), "RET@host")
		})
	}
}

// Who did not call Validate loses nothing.
func TestBadURLSendsToTheLog(t *testing.T) {
	t.Parallel()
	logs := &logBuffer{}
	n := New(Config{URL: "pigeon://SECRET", Logger: slog.New(slog.NewTextHandler(logs, nil))})
	n.Send(Message{Text: "x"})
	require.Error(t, n.Close(t.Context()))
	require.Contains(t, logs.String(), `text=x receiver=Config.URL error="notify: Config.URL: no receiver is called`)
	require.NotContains(t, logs.String(), "SECRET")
}

// post is an SMTP server as small as can be.
type post struct {
	addr string
	// answer may answer instead; "" leaves it to the server, "hang" says nothing more.
	answer func(line string) string
	tls    *tls.Config

	mu    sync.Mutex
	lines []string
	mails []string
}

func newPost(t *testing.T, answer func(line string) string) *post {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &post{addr: l.Addr().String(), answer: answer}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(c, stop) })
		}
	})
	return p
}

func (p *post) serve(conn net.Conn, stop chan struct{}) {
	defer func() { conn.Close() }()
	c := textproto.NewConn(conn)
	say := func(s string) { _ = c.PrintfLine("%s", s) }
	if p.answer("greeting") == "hang" {
		<-stop
		return
	}
	say("220 test")
	for {
		line, err := c.ReadLine()
		if err != nil {
			return
		}
		p.mu.Lock()
		p.lines = append(p.lines, line)
		p.mu.Unlock()
		switch answer := p.answer(line); answer {
		case "hang":
			<-stop
			return
		case "":
		default:
			say(answer)
			continue
		}
		switch verb, _, _ := strings.Cut(line, " "); verb {
		case "EHLO":
			if p.tls != nil {
				say("250-test")
				say("250-STARTTLS")
			}
			say("250 AUTH PLAIN CRAM-MD5")
		case "STARTTLS":
			say("220 go on")
			conn = tls.Server(conn, p.tls)
			c = textproto.NewConn(conn)
		case "AUTH":
			say("235 welcome")
		case "DATA":
			say("354 go on")
			body, err := io.ReadAll(c.DotReader())
			if err != nil {
				return
			}
			if answer := p.answer("."); answer != "" {
				say(answer)
				continue
			}
			p.mu.Lock()
			p.mails = append(p.mails, string(body))
			p.mu.Unlock()
			say("250 taken")
		case "QUIT":
			return // without a word, as some do: the mail was taken
		default:
			say("250 ok")
		}
	}
}

func (p *post) got() (lines, mails []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append(lines, p.lines...), append(mails, p.mails...)
}

func silent(string) string { return "" }

func TestMail(t *testing.T) {
	t.Parallel()
	p := newPost(t, silent)
	n, logs := to(t, "smtp://me:S3CRET@"+p.addr+"/?from=leat@example.com&fromname=Año&to=a@example.com,b+tag@example.com", Config{Pipeline: "año"})
	n.Send(Message{Kind: "k", Text: "línea"})
	require.NoError(t, n.Close(t.Context()))
	lines, mails := p.got()
	require.Equal(t, []string{"EHLO localhost", "AUTH PLAIN AG1lAFMzQ1JFVA==", "MAIL FROM:<leat@example.com>",
		"RCPT TO:<a@example.com>", "RCPT TO:<b+tag@example.com>", "DATA", "QUIT"}, lines)
	require.Len(t, mails, 1)
	m, err := netmail.ReadMessage(strings.NewReader(mails[0]))
	require.NoError(t, err)
	require.Equal(t, "=?utf-8?q?[a=C3=B1o]_l=C3=ADnea?=", m.Header.Get("Subject"))
	from, err := m.Header.AddressList("From")
	require.NoError(t, err)
	require.Equal(t, "Año", from[0].Name)
	to, err := m.Header.AddressList("To")
	require.NoError(t, err)
	require.Len(t, to, 2)
	at, err := m.Header.Date()
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), at, time.Minute)
	require.Regexp(t, `^<\w+@example\.com>$`, m.Header.Get("Message-ID"))
	body, err := io.ReadAll(quotedprintable.NewReader(m.Body))
	require.NoError(t, err)
	require.Equal(t, "[año] línea\n", string(body))
	require.Empty(t, logs.String())
}

func TestMailFailures(t *testing.T) {
	t.Parallel()
	once := func(verb, answer string) func() func(string) string {
		return func() func(string) string {
			var done atomic.Bool
			return func(line string) string {
				if strings.HasPrefix(line, verb) && done.CompareAndSwap(false, true) {
					return answer
				}
				return ""
			}
		}
	}
	for _, c := range []struct {
		name   string
		answer func() func(string) string
		mails  int // that were taken in the end
		log    string
	}{
		{"greylisted recipient is tried again", once("RCPT TO:<b@", "451 later"), 1, "recipient: 451 later"},
		{"unknown recipient does not cost the others theirs, nor mail them twice", once("RCPT TO:<b@", "550 unknown"), 1, "1 of 2 recipients refused: 550 unknown"},
		{"busy", once("MAIL", "421 busy"), 1, "sender: 421 busy"},
		{"disk full after the mail", once(".", "452 full"), 1, "mail: 452 full"},
		{"spam", once(".", "554 spam"), 0, "mail: 554 spam"},
		{"hanging greeting", once("greeting", "hang"), 1, "greeting: no answer in time"},
		{"hanging data", once("DATA", "hang"), 1, "mail: no answer in time"},
		{"wrong password", once("AUTH", "535 S3CRET is wrong"), 0, "authentication: 535 … is wrong"},
		{"no connection any more", once("QUIT", "500 what"), 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, c.answer())
			n, logs := to(t, "smtp://me:S3CRET@"+p.addr+"/?from=leat@example.com&to=a@example.com,b@example.com", Config{Timeout: 500 * time.Millisecond})
			n.Send(Message{Text: "x"})
			err := n.Close(t.Context())
			_, mails := p.got()
			require.Len(t, mails, c.mails)
			require.Equal(t, c.mails == 0, err != nil)
			require.Contains(t, strings.ReplaceAll(logs.String(), `\"`, ""), c.log)
			require.NotContains(t, logs.String(), "S3CRET")
			if c.log == "" {
				require.Empty(t, logs.String())
			}
		})
	}
	t.Run("nobody known", func(t *testing.T) {
		t.Parallel()
		p := newPost(t, func(line string) string {
			if strings.HasPrefix(line, "RCPT") {
				return "550 unknown"
			}
			return ""
		})
		n, logs := to(t, "smtp://"+p.addr+"/?from=leat@example.com&to=a@example.com", Config{})
		n.Send(Message{Text: "x"})
		require.Error(t, n.Close(t.Context()))
		require.Contains(t, logs.String(), `recipient: 550 \"unknown`)
	})
	t.Run("no server", func(t *testing.T) {
		t.Parallel()
		addr := closedPort(t)
		n, logs := to(t, "smtp://me:S3CRET@"+addr+"/?from=leat@example.com&to=a@example.com", Config{})
		n.Send(Message{Text: "x"})
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		require.Error(t, n.Close(ctx))
		require.Contains(t, logs.String(), "connect: dial tcp "+addr+": connect: connection refused")
	})
}

func TestMailEncryption(t *testing.T) {
	t.Parallel()
	certificate := func() *tls.Config {
		s := httptest.NewUnstartedServer(nil)
		s.StartTLS()
		defer s.Close()
		return &tls.Config{Certificates: s.TLS.Certificates}
	}()
	t.Run("STARTTLS", func(t *testing.T) {
		t.Parallel()
		p := newPost(t, silent)
		p.tls = certificate
		n, _ := to(t, "smtp://me:S3CRET@"+p.addr+"/?from=a@example.com&to=b@example.com&skiptlsverify=yes", Config{})
		n.Send(Message{Text: "x"})
		require.NoError(t, n.Close(t.Context()))
		lines, mails := p.got()
		require.Equal(t, []string{"EHLO localhost", "STARTTLS", "EHLO localhost", "AUTH PLAIN AG1lAFMzQ1JFVA=="}, lines[:4])
		require.Len(t, mails, 1)
	})
	t.Run("unknown certificate", func(t *testing.T) {
		t.Parallel()
		p := newPost(t, silent)
		p.tls = certificate
		n, logs := to(t, "smtp://me:S3CRET@"+p.addr+"/?from=a@example.com&to=b@example.com", Config{})
		n.Send(Message{Text: "x"})
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		require.Error(t, n.Close(ctx))
		require.Contains(t, logs.String(), "STARTTLS: tls: failed to verify certificate")
		lines, _ := p.got()
		require.NotContains(t, strings.Join(lines, "\n"), "AUTH")
	})
	t.Run("required but not offered", func(t *testing.T) {
		t.Parallel()
		for _, option := range []string{"requirestarttls=yes", "encryption=explicittls"} {
			p := newPost(t, silent)
			n, logs := to(t, "smtp://me:S3CRET@"+p.addr+"/?from=a@example.com&to=b@example.com&"+option, Config{})
			n.Send(Message{Text: "x"})
			require.Error(t, n.Close(t.Context()))
			require.Contains(t, logs.String(), "STARTTLS: the server does not offer it")
		}
	})
	t.Run("implicit", func(t *testing.T) {
		t.Parallel()
		l, err := tls.Listen("tcp", "127.0.0.1:0", certificate)
		require.NoError(t, err)
		defer l.Close()
		p := &post{answer: func(line string) string {
			if strings.HasPrefix(line, "AUTH CRAM-MD5") {
				return "334 PDEyMzQ+"
			}
			if strings.HasPrefix(line, "bWUg") { // "me " and the digest
				return "235 welcome"
			}
			return ""
		}}
		go func() {
			if c, err := l.Accept(); err == nil {
				p.serve(c, nil)
			}
		}()
		n, _ := to(t, "smtp://me:S3CRET@"+l.Addr().String()+"/?from=a@example.com&to=b@example.com&skiptlsverify=yes&encryption=implicittls&auth=crammd5", Config{})
		n.Send(Message{Text: "x"})
		require.NoError(t, n.Close(t.Context()))
		_, mails := p.got()
		require.Len(t, mails, 1)
	})
}

// A password never goes over the network unencrypted.
func TestMailRefusesToSendAPasswordInTheClear(t *testing.T) {
	t.Parallel()
	client, server := net.Pipe()
	defer client.Close()
	p := &post{answer: silent}
	go p.serve(server, nil)
	u, err := url.Parse("smtp://me:S3CRET@mail.example.com/?from=a@example.com&to=b@example.com")
	require.NoError(t, err)
	m, err := newMailer(u)
	require.NoError(t, err)
	step, err := m.session(client, message{title: "x"})
	require.Equal(t, "authentication", step)
	require.ErrorContains(t, err, "unencrypted connection")
	require.True(t, isRefused(err))
	lines, _ := p.got()
	require.NotContains(t, strings.Join(lines, "\n"), "AUTH")
}
