package main

import (
	"testing"

	"hotpatch/internal/host"
)

// What could not be found out is not passed over.
func TestUnknownShown(t *testing.T) {
	p := host.Proc{Modules: []host.Module{{Path: "/a", State: host.Current}, {Path: "/b", State: host.Unknown, Reason: "it is leased"}}}
	if m, shown := moduleStatus(nil, &p.Modules[0], nil); shown {
		t.Errorf("a current module is shown: %+v", m)
	}
	if m, shown := moduleStatus(nil, &p.Modules[1], nil); !shown || m.State != "unknown" || m.Reason != "it is leased" {
		t.Errorf("shown %v: %+v", shown, m)
	}
	if rs := noneFixed(&p); len(rs) != 1 || rs[0].String() != "unreadable-file: /b: it is leased" {
		t.Errorf("apply says %v", rs)
	}
}

func TestProcesses(t *testing.T) {
	if one, two := processes(1), processes(2); one != "1 process" || two != "2 processes" {
		t.Errorf("%s, %s", one, two)
	}
}
