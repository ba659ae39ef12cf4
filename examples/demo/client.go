package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

const patience = 5 * time.Second // for one answer

// errRefused is the answer of a server that checks a request's length.
var errRefused = errors.New("refused")

// client is one connection to sessiond.
type client struct {
	conn *net.TCPConn
	in   *bufio.Reader
}

func dial(addr, name, secret string) (*client, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &client{conn: conn.(*net.TCPConn), in: bufio.NewReader(conn)}
	// A reset at the end leaves no port waiting, however many connections.
	_ = c.conn.SetLinger(0)
	if got, err := c.ask("LOGIN " + name + " " + secret); err != nil || got != "OK "+name {
		c.close()
		return nil, fmt.Errorf("log in: %q %w", got, err)
	}
	return c, nil
}

func (c *client) close() { _ = c.conn.Close() }

// ask sends a line and returns the line that answers it.
func (c *client) ask(line string) (string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c.conn, line+"\n"); err != nil {
		return "", fmt.Errorf("send %q: %w", line, err)
	}
	got, err := c.in.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("answer to %q: %w", line, err)
	}
	return strings.TrimSuffix(got, "\n"), nil
}

// count asks the server to count and checks that it comes to want.
func (c *client) count(want int) error {
	got, err := c.ask("COUNT")
	if err == nil && got != fmt.Sprintf("OK %d", want) {
		err = fmt.Errorf("the session counted %q, want OK %d", got, want)
	}
	return err
}

// echo sends text, asks for n bytes of it, and returns what comes.
func (c *client) echo(n int, text string) ([]byte, error) {
	got, err := c.ask(fmt.Sprintf("ECHO %d %s", n, text))
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(got, "ERR ") {
		return nil, fmt.Errorf("%w: %s", errRefused, got)
	}
	if got != fmt.Sprintf("OK %d", n) {
		return nil, fmt.Errorf("echo of %d bytes: answer %q", n, got)
	}
	body := make([]byte, n+1)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return nil, fmt.Errorf("echo of %d bytes: %w", n, err)
	}
	return body[:n], nil
}

// attack asks for more bytes than it sends and reports whether the secret of
// the session that lies behind its own came with them.
func (c *client) attack(secret string) (leaked bool, err error) {
	got, err := c.echo(400, "x")
	if errors.Is(err, errRefused) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("attack: %w", err)
	}
	return bytes.Contains(got, []byte(secret)), nil
}
