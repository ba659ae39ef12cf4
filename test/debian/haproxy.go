package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hotpatch/test/meter"
)

var haproxy = pair{
	source:   "haproxy",
	packages: []string{"haproxy"},
	modules:  []string{"haproxy"},
	start:    startHAProxy,
}

type haproxyTarget struct {
	*daemon
	backend     *http.Server
	http, http2 string // addresses
}

// startHAProxy runs HAProxy with four threads between a client and a small
// server, once for HTTP/1 and once for HTTP/2 without encryption.
func startHAProxy(ctx context.Context, p place) (target, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("start the backend: %w", err)
	}
	t := &haproxyTarget{backend: &http.Server{Handler: http.HandlerFunc(backend), ReadHeaderTimeout: patience}}
	go func() { _ = t.backend.Serve(listener) }()
	addrs, err := freePorts(2)
	if err != nil {
		t.backend.Close()
		return nil, err
	}
	t.http, t.http2 = addrs[0], addrs[1]
	config := filepath.Join(p.scratch, "haproxy.cfg")
	text := fmt.Sprintf(`
global
    nbthread 4
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout http-keep-alive 30s
    option forwardfor
frontend plain
    bind %s
    default_backend small
frontend http2
    bind %s proto h2
    default_backend small
backend small
    http-response set-header X-Through %%[nbsrv]
    server one %s
`, t.http, t.http2, listener.Addr())
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		t.backend.Close()
		return nil, fmt.Errorf("configure haproxy: %w", err)
	}
	program, err := p.find("haproxy")
	if err == nil {
		t.daemon, err = startDaemon(ctx, p, t.http, program, "-db", "-f", config)
	}
	if err != nil {
		t.backend.Close()
		return nil, err
	}
	return t, nil
}

// backend reads what it is sent and says how much that was. At /early it
// answers before it reads.
func backend(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/early" {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
		time.AfterFunc(2*time.Second, func() { conn.Close() })
		return
	}
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	fmt.Fprintln(w, n)
}

func (t *haproxyTarget) pids() []int { return []int{t.cmd.Process.Pid} }

func (t *haproxyTarget) close() {
	t.stop()
	t.backend.Close()
}

// ask sends a chunk whose size line is longer than a buffer. The fixed build
// takes that for what it is, an error; the baseline waits for its end.
func (t *haproxyTarget) ask(context.Context) (string, error) {
	conn, err := net.DialTimeout("tcp", t.http, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	request := "POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 20000) + "\r\nx\r\n0\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return "", err
	}
	answer.Body.Close()
	return "chunk line of 20000 bytes: " + answer.Status, nil
}

func (t *haproxyTarget) load(ctx context.Context, m *meter.Meter) error {
	requests := []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n3\r\nyou\r\n0\r\n\r\n",
	}
	other := make(chan error, 1)
	go func() { other <- http2Load(ctx, m, t.http2) }()
	err := httpLoad(ctx, m, t.http, requests)
	return errors.Join(err, <-other, t.alive())
}
