package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"hotpatch/test/meter"
)

var redis = pair{
	source:   "redis",
	packages: []string{"redis-tools", "redis-server"},
	modules:  []string{"redis-check-rdb"}, // redis-server is a link to it
	start:    startRedis,
}

type redisTarget struct {
	*daemon
	place place
	addr  string
	asked int
}

func startRedis(ctx context.Context, p place) (target, error) {
	addrs, err := freePorts(1)
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addrs[0])
	if err != nil {
		return nil, err
	}
	program := filepath.Join(p.root, "usr/bin/redis-server")
	d, err := startDaemon(ctx, p, addrs[0], program, "--bind", host, "--port", port, "--save", "", "--dir", p.scratch)
	if err != nil {
		return nil, err
	}
	return &redisTarget{daemon: d, place: p, addr: addrs[0]}, nil
}

func (t *redisTarget) pids() []int { return []int{t.cmd.Process.Pid} }

func (t *redisTarget) close() { t.stop() }

// ask dumps a stream, writes into the dump that a second consumer holds the
// same message, which cannot be, and restores it. The fixed build refuses the
// dump; the baseline takes it. What was restored is left alone.
func (t *redisTarget) ask(context.Context) (string, error) {
	c, err := dialRedis(t.addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	t.asked++
	source, restored := fmt.Sprintf("stream-%d", t.asked), fmt.Sprintf("restored-%d", t.asked)
	for _, command := range [][]string{
		{"XADD", source, "1-0", "field", "value"},
		{"XGROUP", "CREATE", source, "group", "0"},
		{"XREADGROUP", "GROUP", "group", "first", "STREAMS", source, ">"},
		{"XGROUP", "CREATECONSUMER", source, "group", "second"},
	} {
		if _, err := c.do(command...); err != nil {
			return "", err
		}
	}
	dump, err := c.do("DUMP", source)
	if err != nil {
		return "", err
	}
	dump, err = shareMessage(dump)
	if err != nil {
		return "", err
	}
	answer, err := c.do("RESTORE", restored, "0", dump)
	if e := errRedis(""); errors.As(err, &e) {
		answer, err = string(e), nil
	}
	return "RESTORE of a stream with a shared entry: " + answer, err
}

// shareMessage changes the dump of a stream whose last consumer holds no
// message so that it holds message 1-0. A dump ends with the number of
// messages that the last consumer holds, their identifiers, the version of the
// format (2 bytes) and a CRC-64 of all before it.
func shareMessage(dump string) (string, error) {
	const tail = 2 + 8
	n := len(dump) - tail
	if n < 1 || dump[n-1] != 0 {
		return "", errors.New("the dump of a stream does not end as expected")
	}
	out := []byte(dump[:n-1])
	out = append(out, 1)
	out = binary.BigEndian.AppendUint64(out, 1)
	out = binary.BigEndian.AppendUint64(out, 0)
	out = append(out, dump[n:n+2]...)
	return string(binary.LittleEndian.AppendUint64(out, crc64(out))), nil
}

// crc64 is the checksum of a dump: the Jones polynomial, bits reflected, no
// inversion.
func crc64(p []byte) uint64 {
	var crc uint64
	for _, b := range p {
		crc ^= uint64(b)
		for range 8 {
			crc = crc>>1 ^ -(crc&1)&0x95ac9329ac4bc9b5
		}
	}
	return crc
}

// load runs redis-benchmark in a loop, and counts requests on connections of
// its own: counters that must go on counting, and dumps that are restored.
func (t *redisTarget) load(ctx context.Context, m *meter.Meter) error {
	host, port, err := net.SplitHostPort(t.addr)
	if err != nil {
		return err
	}
	said := &sink{}
	benchmark := exec.CommandContext(ctx, filepath.Join(t.place.root, "usr/bin/redis-benchmark"),
		"-h", host, "-p", port, "-c", "20", "-l", "-q", "-n", "20000", "-t", "ping,set,get,incr,lpush,rpop,sadd,hset,mset")
	benchmark.Env = t.place.environment()
	benchmark.Stdout, benchmark.Stderr = said, said
	if err := benchmark.Start(); err != nil {
		return fmt.Errorf("start redis-benchmark: %w", err)
	}
	var wg sync.WaitGroup
	errs := make([]error, keptConnections)
	for i := range errs {
		wg.Go(func() { errs[i] = countInRedis(ctx, m, t.addr, i) })
	}
	err = benchmark.Wait()
	if ctx.Err() == nil {
		errs = append(errs, fmt.Errorf("redis-benchmark ended: %w: %s", err, said))
	}
	wg.Wait()
	return errors.Join(append(errs, t.alive())...)
}

func countInRedis(ctx context.Context, m *meter.Meter, addr string, i int) error {
	c, err := dialRedis(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	key := fmt.Sprintf("counter-%d", i)
	for n := 1; ctx.Err() == nil; n++ {
		err := m.Do(func() error {
			got, err := c.do("INCR", key)
			if err == nil && got != strconv.Itoa(n) {
				err = fmt.Errorf("%s is %s, want %d", key, got, n)
			}
			return err
		})
		if err == nil {
			err = m.Do(func() error { return dumpAndRestore(c, key, i, n) })
		}
		if err != nil {
			return fmt.Errorf("a kept connection: %w", err)
		}
		rest(ctx, 5*time.Millisecond)
	}
	return nil
}

// dumpAndRestore takes one kind of value after the other through a dump.
func dumpAndRestore(c *redisConn, key string, i, n int) error {
	own := fmt.Sprintf("%s-%d", key, n%4)
	fill := [][]string{
		{"SET", own, strings.Repeat("x", 100)},
		{"HSET", own, "a", "1", "b", "2"},
		{"RPUSH", own, "a", "b", "c"},
		{"XADD", own, "*", "a", "1"},
	}[n%4]
	for _, command := range [][]string{{"DEL", own}, fill} {
		if _, err := c.do(command...); err != nil {
			return err
		}
	}
	dump, err := c.do("DUMP", own)
	if err != nil {
		return err
	}
	_, err = c.do("RESTORE", own, "0", dump, "REPLACE")
	return err
}

// errRedis is an error that the server answered.
type errRedis string

func (e errRedis) Error() string { return string(e) }

type redisConn struct {
	net.Conn
	in *bufio.Reader
}

func dialRedis(addr string) (*redisConn, error) {
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, err
	}
	return &redisConn{conn, bufio.NewReader(conn)}, nil
}

// do sends a command and returns its answer; of an array the last element.
func (c *redisConn) do(args ...string) (string, error) {
	_ = c.SetDeadline(time.Now().Add(patience))
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return "", fmt.Errorf("%s: %w", args[0], err)
	}
	answer, err := c.read()
	if err != nil {
		return "", fmt.Errorf("%s: %w", args[0], err)
	}
	return answer, nil
}

func (c *redisConn) read() (string, error) {
	line, err := c.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty answer")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '-':
		return "", errRedis(rest)
	case '$', '*':
		n, err := strconv.Atoi(rest)
		if err != nil || n < 0 {
			return "", err
		}
		if kind == '*' {
			var last string
			for range n {
				if last, err = c.read(); err != nil {
					return "", err
				}
			}
			return last, nil
		}
		body := make([]byte, n+2)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return "", err
		}
		return string(body[:n]), nil
	}
	return rest, nil
}
