package table

import (
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	var b strings.Builder
	if err := Write(&b, []string{"pair", "pause"}, [][]string{{"x", "57 µs"}, {"longer"}}); err != nil {
		t.Fatal(err)
	}
	want := "" +
		"| pair   | pause |\n" +
		"| ------ | ----- |\n" +
		"| x      | 57 µs |\n" +
		"| longer |       |\n"
	if b.String() != want {
		t.Errorf("got\n%swant\n%s", b.String(), want)
	}
}
