package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"hotpatch/test/meter"
)

var nginx = pair{
	source:   "nginx",
	packages: []string{"nginx"},
	modules:  []string{"nginx"},
	start:    startNginx,
}

// nginxBefore is the update before, which can be patched.
var nginxBefore = pair{
	source:   "nginx",
	packages: []string{"nginx"},
	modules:  []string{"nginx"},
	builds: []build{
		{"1.22.1-9+deb12u8", "b475b51b984b70d4c006f0631d5247fd4e814fbf73d3207139a07b107cad6ffe"},
		{"1.22.1-9+deb12u9", "4e7b52f8b31f26d77ffb5c427c41e36223e81b047242ecfa8dc1d7f939734885"},
	},
	start: func(ctx context.Context, p place) (target, error) {
		t, err := startNginx(ctx, p)
		return silent{t}, err
	},
}

// silent is a target of which no different answers are known.
type silent struct{ target }

func (silent) ask(context.Context) (string, error) { return "", nil }

type nginxTarget struct {
	*daemon
	http, http2 string // addresses
}

// startNginx runs nginx with a master and two workers: files, an alias,
// try_files, a map with a regular expression, server-side includes, and HTTP/2
// without encryption.
func startNginx(ctx context.Context, p place) (target, error) {
	addrs, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	t := &nginxTarget{http: addrs[0], http2: addrs[1]}
	files := map[string]string{
		"www/index.html":   "index\n",
		"www/files/a.txt":  strings.Repeat("some text\n", 500),
		"www/part.html":    "a part\n",
		"www/whole.shtml":  "<!--#set var=\"x\" value=\"y\" --><!--#echo var=\"x\" --> <!--#include virtual=\"/part.html\" -->\n",
		"tmp/keep":         "",
		"nginx.conf":       nginxConfig(p.scratch, t.http, t.http2),
		"www/again/x.html": "again\n",
	}
	for name, text := range files {
		at := filepath.Join(p.scratch, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return nil, fmt.Errorf("configure nginx: %w", err)
		}
		if err := os.WriteFile(at, []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("configure nginx: %w", err)
		}
	}
	program, err := p.find("nginx")
	if err != nil {
		return nil, err
	}
	t.daemon, err = startDaemon(ctx, p, t.http, program, "-p", p.scratch, "-c", filepath.Join(p.scratch, "nginx.conf"))
	if err != nil {
		return nil, err
	}
	rest(ctx, 200*time.Millisecond) // until both workers are there
	return t, nil
}

func nginxConfig(dir, plain, http2 string) string {
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	return fmt.Sprintf(`
daemon off;
master_process on;
worker_processes 2;
%[4]s
error_log %[1]s/error.log;
pid %[1]s/pid;
events { worker_connections 512; }
http {
    access_log off;
    keepalive_timeout 60;
    keepalive_requests 1000000;
    client_body_temp_path %[1]s/tmp/a;
    proxy_temp_path %[1]s/tmp/b;
    fastcgi_temp_path %[1]s/tmp/c;
    uwsgi_temp_path %[1]s/tmp/d;
    scgi_temp_path %[1]s/tmp/e;
    map $uri $mapped { ~^/map/(?<rest>.*)$ "is $rest"; default "is not"; }
    server {
        listen %[2]s;
        root %[1]s/www;
        location /alias/ { alias %[1]s/www/files/; }
        location /try/ { alias %[1]s/www/; try_files $uri /index.html; }
        location /map/ { return 200 "$mapped\n"; }
        location /through/ { proxy_pass http://%[2]s/; }
        location ~ \.shtml$ { ssi on; ssi_types *; }
    }
    server {
        listen %[3]s http2;
        http2_max_concurrent_streams 2;
        root %[1]s/www;
    }
}
`, dir, plain, http2, user)
}

func (t *nginxTarget) pids() []int { return t.tree() }

func (t *nginxTarget) close() { t.stop() }

// ask opens and resets twelve HTTP/2 streams at once where two may be open.
// The fixed build refuses those beyond twice as many; the baseline works on
// all of them.
func (t *nginxTarget) ask(context.Context) (string, error) {
	const streams = 12
	conn, err := net.DialTimeout("tcp", t.http2, patience)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	out := http2Preface
	for i := range uint32(streams) {
		out = append(out, frame(frameHeaders, flagEnd|flagHeaders, 2*i+1, http2Get)...)
		out = append(out, frame(frameReset, 0, 2*i+1, []byte{0, 0, 0, 8})...)
	}
	if _, err := conn.Write(out); err != nil {
		return "", err
	}
	answered, refused := map[uint32]bool{}, 0
	in := bufio.NewReader(conn)
	for len(answered)+refused < streams {
		kind, _, stream, body, err := readFrame(in)
		if err != nil {
			return "", err
		}
		switch {
		case kind == frameHeaders:
			answered[stream] = true
		case kind == frameReset && len(body) == 4 && body[3] == 7: // REFUSED_STREAM
			refused++
		}
	}
	return fmt.Sprintf("%d streams at once: %d answered, %d refused", streams, len(answered), refused), nil
}

func (t *nginxTarget) load(ctx context.Context, m *meter.Meter) error {
	var requests []string
	for _, path := range []string{"/", "/alias/a.txt", "/try/none", "/map/abc", "/through/alias/a.txt", "/whole.shtml", "/try/again/x.html"} {
		requests = append(requests, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
	}
	other := make(chan error, 1)
	go func() { other <- http2Load(ctx, m, t.http2) }()
	err := httpLoad(ctx, m, t.http, requests)
	return errors.Join(err, <-other, t.alive())
}
