// Package meter counts the requests of a load and how long each took, apart
// for each phase of an experiment. It knows nothing of what the requests are.
package meter

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"time"
)

// Phase is a part of an experiment.
type Phase int

// The phases: before a patch, while commands that patch run, and afterwards.
const (
	Before Phase = iota
	During
	After
	phases
)

func (p Phase) String() string {
	return [...]string{"before", "during", "after"}[p]
}

// Meter collects results from many goroutines. The zero Meter is ready and in
// the phase Before.
type Meter struct {
	mu      sync.Mutex
	phase   Phase
	since   time.Time
	results [phases]result
}

type result struct {
	took   []time.Duration
	more   int // answered, without a time
	failed int
	errs   []error // the first few
	lasted time.Duration
}

// Enter begins a phase; one that was entered before goes on.
func (m *Meter) Enter(p Phase) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	if !m.since.IsZero() {
		m.results[m.phase].lasted += now.Sub(m.since)
	}
	m.phase, m.since = p, now
}

// Do runs one request and counts it. A request that any part of a phase
// During falls into at its start or end belongs to During.
func (m *Meter) Do(request func() error) error {
	m.mu.Lock()
	began := m.phase
	m.mu.Unlock()
	start := time.Now()
	err := request()
	took := time.Since(start)
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.phase
	if began == During {
		p = During
	}
	r := &m.results[p]
	if err != nil {
		r.failed++
		if len(r.errs) < 3 {
			r.errs = append(r.errs, err)
		}
		return err
	}
	r.took = append(r.took, took)
	return nil
}

// Add counts requests that were answered and not timed.
func (m *Meter) Add(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.results[m.phase].more += n
}

// Summary is what a phase came to.
type Summary struct {
	Phase     Phase
	Requests  int // answered
	Failed    int
	Errors    []error // the first few failures
	Lasted    time.Duration
	P50, P99  time.Duration // nearest rank, of the answered requests
	Longest   time.Duration
	PerSecond float64
}

// Summarize ends the running phase and returns all phases in order.
func (m *Meter) Summarize() []Summary {
	m.mu.Lock()
	p := m.phase
	m.mu.Unlock()
	m.Enter(p)
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []Summary
	for p := range phases {
		r := &m.results[p]
		slices.Sort(r.took)
		s := Summary{Phase: p, Requests: len(r.took) + r.more, Failed: r.failed, Errors: r.errs, Lasted: r.lasted}
		if n := len(r.took); n > 0 {
			s.P50, s.P99, s.Longest = Percentile(r.took, 50), Percentile(r.took, 99), r.took[n-1]
		}
		if r.lasted > 0 {
			s.PerSecond = float64(s.Requests) / r.lasted.Seconds()
		}
		out = append(out, s)
	}
	return out
}

// Percentile is the nearest-rank percentile of sorted values: the smallest
// value that at least q percent of them do not exceed. It is 0 for none.
func Percentile[T int64 | float64 | time.Duration](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, int(math.Ceil(q/100*float64(len(sorted))))-1)]
}

// Micros writes a duration in microseconds.
func Micros(d time.Duration) string {
	return fmt.Sprintf("%.0f µs", float64(d)/float64(time.Microsecond))
}
