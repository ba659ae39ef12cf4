package meter

import (
	"errors"
	"testing"
	"time"
)

func TestPercentile(t *testing.T) {
	hundred := make([]int64, 100)
	for i := range hundred {
		hundred[i] = int64(i + 1)
	}
	for _, c := range []struct {
		values []int64
		q      float64
		want   int64
	}{
		{nil, 50, 0},
		{[]int64{7}, 99, 7},
		{[]int64{1, 2, 3}, 50, 2},
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 100, 100},
		{hundred, 0, 1},
	} {
		if got := Percentile(c.values, c.q); got != c.want {
			t.Errorf("percentile %v of %d values: got %d, want %d", c.q, len(c.values), got, c.want)
		}
	}
}

func TestPhases(t *testing.T) {
	var m Meter
	m.Enter(Before)
	ok := func() error { return nil }
	_ = m.Do(ok)
	_ = m.Do(func() error { m.Enter(During); return nil })             // ends during
	_ = m.Do(func() error { m.Enter(After); return errors.New("no") }) // began during
	_ = m.Do(ok)
	_ = m.Do(ok)
	time.Sleep(time.Millisecond)
	s := m.Summarize()
	for i, want := range []struct{ requests, failed int }{{1, 0}, {1, 1}, {2, 0}} {
		if s[i].Requests != want.requests || s[i].Failed != want.failed {
			t.Errorf("%v: got %d requests and %d failed, want %+v", s[i].Phase, s[i].Requests, s[i].Failed, want)
		}
	}
	if s[After].Lasted < time.Millisecond {
		t.Errorf("the last phase lasted %v, want at least 1ms", s[After].Lasted)
	}
	if len(s[During].Errors) != 1 {
		t.Errorf("errors of During: got %v, want one", s[During].Errors)
	}
}
