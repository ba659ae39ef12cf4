package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"hotpatch/test/meter"
)

const (
	keptConnections = 24
	patience        = 5 * time.Second // for one answer
)

// httpLoad puts requests on an HTTP server: connections that stay open, and
// some that come and go. Each connection sends what request returns, in turn.
func httpLoad(ctx context.Context, m *meter.Meter, addr string, requests []string) error {
	var wg sync.WaitGroup
	lost := make(chan error, keptConnections)
	for range keptConnections {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			return fmt.Errorf("connect: %w", err)
		}
		wg.Go(func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for n := 0; ctx.Err() == nil; n++ {
				err := m.Do(func() error { return exchange(conn, in, requests[n%len(requests)]) })
				if err != nil {
					lost <- fmt.Errorf("a kept connection: %w", err)
					return
				}
				rest(ctx, 5*time.Millisecond)
			}
		})
	}
	for range 2 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				_ = m.Do(func() error { return once(addr, requests[n%len(requests)]) })
				rest(ctx, 2*time.Millisecond)
			}
		})
	}
	wg.Wait()
	close(lost)
	var all error
	for err := range lost {
		all = errors.Join(all, err)
	}
	return all
}

// once sends a request on a connection of its own.
func once(addr, request string) error {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.(*net.TCPConn).SetLinger(0)
	return exchange(conn, bufio.NewReader(conn), request)
}

// exchange sends a request and reads the whole answer, which must be a 200.
func exchange(conn net.Conn, in *bufio.Reader, request string) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("answer %s to %q", answer.Status, strings.SplitN(request, "\r\n", 2)[0])
	}
	return nil
}

// The HTTP/2 frames used here: RFC 9113, sections 4.1 and 6.
const (
	frameData     = 0
	frameHeaders  = 1
	frameReset    = 3
	frameSettings = 4
	framePing     = 6
	flagEnd       = 1 // also ACK
	flagHeaders   = 4
)

// http2Preface opens an HTTP/2 connection with empty settings.
var http2Preface = append([]byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), frame(frameSettings, 0, 0, nil)...)

// http2Get is a GET of / in HPACK: three indexed fields and a literal one,
// RFC 7541, appendix A.
var http2Get = []byte("\x82\x86\x84\x01\x01a")

func frame(kind, flags byte, stream uint32, body []byte) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(len(body)))[1:]
	head = append(head, kind, flags)
	return append(binary.BigEndian.AppendUint32(head, stream), body...)
}

// readFrame reads one frame.
func readFrame(in io.Reader) (kind, flags byte, stream uint32, body []byte, err error) {
	var head [9]byte
	if _, err = io.ReadFull(in, head[:]); err != nil {
		return
	}
	body = make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
	_, err = io.ReadFull(in, body)
	return head[3], head[4], binary.BigEndian.Uint32(head[5:]), body, err
}

// http2Load keeps one HTTP/2 connection busy with pings and requests.
func http2Load(ctx context.Context, m *meter.Meter, addr string) error {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write(http2Preface); err != nil {
		return fmt.Errorf("open HTTP/2: %w", err)
	}
	in := bufio.NewReader(conn)
	for n := uint32(0); ctx.Err() == nil; n++ {
		if err := m.Do(func() error { return http2Exchange(conn, in, n) }); err != nil {
			return fmt.Errorf("the HTTP/2 connection: %w", err)
		}
		rest(ctx, 5*time.Millisecond)
	}
	return nil
}

// http2Exchange sends a ping and a request and waits for both answers.
func http2Exchange(conn net.Conn, in io.Reader, n uint32) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	mark := fmt.Appendf(nil, "%08d", n)
	stream := 2*n + 1
	if _, err := conn.Write(append(frame(framePing, 0, 0, mark), frame(frameHeaders, flagEnd|flagHeaders, stream, http2Get)...)); err != nil {
		return err
	}
	for pinged, answered := false, false; !pinged || !answered; {
		kind, flags, of, body, err := readFrame(in)
		switch {
		case err != nil:
			return err
		case kind == framePing && flags&flagEnd != 0:
			pinged = bytes.Equal(body, mark)
		case kind == frameReset && of == stream:
			return fmt.Errorf("stream %d is reset: %x", stream, body)
		case (kind == frameData || kind == frameHeaders) && of == stream:
			answered = answered || flags&flagEnd != 0
		}
	}
	return nil
}
