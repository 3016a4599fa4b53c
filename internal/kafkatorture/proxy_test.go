//go:build unix

package kafkatorture

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"
)

// proxy lies between one member and the brokers: the member dials it in place of each
// broker. It can cut connections in the middle of a request or an answer, and be silent.
type proxy struct {
	listeners []net.Listener
	route     map[string]string // broker → where the member is to dial

	mu    sync.Mutex
	conns map[net.Conn]bool
	quiet chan struct{} // while not nil nothing passes; closed at its end
	lose  func(of request, frame []byte) (pass []byte, on bool)
}

func newProxy(brokers []string) (*proxy, error) {
	p := &proxy{route: map[string]string{}, conns: map[net.Conn]bool{}}
	for _, b := range brokers {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			p.close()
			return nil, err
		}
		p.listeners = append(p.listeners, l)
		p.route[b] = l.Addr().String()
		go p.serve(l, b)
	}
	return p, nil
}

func (p *proxy) serve(l net.Listener, broker string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go p.link(client, broker)
	}
}

func (p *proxy) link(client net.Conn, broker string) {
	server, err := net.DialTimeout("tcp", broker, 5*time.Second)
	if err != nil {
		client.Close()
		return
	}
	p.mu.Lock()
	p.conns[client], p.conns[server] = true, true
	p.mu.Unlock()
	l := &link{asked: map[uint32]request{}}
	var both sync.WaitGroup
	for _, way := range []struct {
		from, to net.Conn
		see      func(frame []byte) request
	}{{client, server, l.request}, {server, client, l.answer}} {
		both.Go(func() {
			p.pass(way.from, way.to, way.see)
			client.Close()
			server.Close()
		})
	}
	both.Wait()
	p.mu.Lock()
	delete(p.conns, client)
	delete(p.conns, server)
	p.mu.Unlock()
}

// link is one connection. It knows what was asked, to tell answers apart.
type link struct {
	mu    sync.Mutex
	asked map[uint32]request
}

// request is a kind of request, and its version.
type request struct {
	answer       bool
	key, version int16
}

func (l *link) request(frame []byte) request {
	r := request{key: int16(binary.BigEndian.Uint16(frame)), version: int16(binary.BigEndian.Uint16(frame[2:]))}
	l.mu.Lock()
	l.asked[binary.BigEndian.Uint32(frame[4:])] = r
	l.mu.Unlock()
	return r
}

func (l *link) answer(frame []byte) request {
	id := binary.BigEndian.Uint32(frame)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.asked[id]
	delete(l.asked, id)
	r.answer = true
	return r
}

// pass hands on frames.
func (p *proxy) pass(from, to net.Conn, see func(frame []byte) request) {
	for {
		frame := make([]byte, 4)
		if _, err := io.ReadFull(from, frame); err != nil {
			return
		}
		frame = append(frame, make([]byte, binary.BigEndian.Uint32(frame))...)
		if _, err := io.ReadFull(from, frame[4:]); err != nil {
			return
		}
		r := see(frame[4:])
		p.mu.Lock()
		quiet, lose := p.quiet, p.lose
		p.mu.Unlock()
		if quiet != nil {
			<-quiet
		}
		if lose != nil && r.answer {
			pass, on := lose(r, frame)
			if !on {
				_, _ = to.Write(pass)
				return
			}
			frame = pass
		}
		if _, err := to.Write(frame); err != nil {
			return
		}
	}
}

// losing makes answers get lost, though the broker has done what was asked: lose says what is to pass in
// place of the frame, and whether the connection goes on after it.
func (p *proxy) losing(lose func(of request, frame []byte) (pass []byte, on bool)) {
	p.mu.Lock()
	p.lose = lose
	p.mu.Unlock()
}

// cut closes all connections, wherever they are, and tells how many.
func (p *proxy) cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	return len(p.conns) / 2
}

// silence lets nothing pass for a time; then all of it comes through after all.
func (p *proxy) silence(ctx context.Context, d time.Duration) {
	quiet := make(chan struct{})
	p.mu.Lock()
	p.quiet = quiet
	p.mu.Unlock()
	pause(ctx, d)
	p.mu.Lock()
	p.quiet = nil
	p.mu.Unlock()
	close(quiet)
}

func (p *proxy) close() {
	for _, l := range p.listeners {
		l.Close()
	}
	p.cut()
}
