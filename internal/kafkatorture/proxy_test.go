package kafkatorture

import (
	"context"
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
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{client, server}, {server, client}} {
		both.Go(func() {
			p.copy(way[1], way[0])
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

func (p *proxy) copy(to io.Writer, from io.Reader) {
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		quiet := p.quiet
		p.mu.Unlock()
		if quiet != nil {
			<-quiet
		}
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
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
