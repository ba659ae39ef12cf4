package engine

import (
	"encoding/json"
	"reflect"
	"testing"
)

// TestNamesInJSON: what a worker says of names that are not UTF-8 arrives as it was.
func TestNamesInJSON(t *testing.T) {
	const name = "\xff \x1b[31m\n\"q\" \\x41 \u202e ö"
	want := Event{Program: name, State: "blocked", Result: &Result{Program: name, Reasons: []Reason{
		{Code: ThreadInside, Tid: 1, Thread: name, Function: name, Module: name, Detail: name, Stack: []string{name, "main"}},
	}}}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got Event
	if err := json.Unmarshal(b, &got); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v from %s", got, err, b)
	}
	if want.Result.Reasons[0].Stack[0] != name {
		t.Error("what was written is changed")
	}
}
