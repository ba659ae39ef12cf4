package main

import (
	"os"
	"strings"
	"testing"
)

func TestCRC64(t *testing.T) {
	// The check value of CRC-64/REDIS.
	if got := crc64([]byte("123456789")); got != 0xe9c6d914c4b8d9ca {
		t.Errorf("got %#x", got)
	}
}

func TestShareMessage(t *testing.T) {
	version := "\x0a\x00"
	dump := "head\x00" + version + "checksum"
	got, err := shareMessage(dump)
	if err != nil {
		t.Fatal(err)
	}
	want := "head\x01" + "\x00\x00\x00\x00\x00\x00\x00\x01" + "\x00\x00\x00\x00\x00\x00\x00\x00" + version
	if body := got[:len(got)-8]; body != want {
		t.Errorf("got %q, want %q and a checksum", body, want)
	}
	for _, bad := range []string{"", "short", "head\x02" + version + "checksum"} {
		if _, err := shareMessage(bad); err == nil {
			t.Errorf("%q is no such dump, but there was no error", bad)
		}
	}
}

func TestPairsAreListed(t *testing.T) {
	list, err := os.ReadFile("bookworm.tsv")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		if !strings.Contains(string(list), "\n"+p.source+"\t") {
			t.Errorf("%s is not in bookworm.tsv", p.source)
		}
	}
}

func TestChoose(t *testing.T) {
	if got, err := choose("nginx,redis"); err != nil || len(got) != 2 || got[0].source != "nginx" || got[1].source != "redis" {
		t.Errorf("got %v, %v", got, err)
	}
	if _, err := choose("nginx,none"); err == nil {
		t.Error("a pair that is not there was chosen")
	}
}
