package patch

import (
	"fmt"

	"hotpatch/internal/diff"
	"hotpatch/internal/module"
)

// leaves reports whether the patch leaves something in a program that a later
// one has to find again.
func (p *Patch) leaves() bool { return len(p.Variables) > 0 || p.Escapes }

// A Succession is what a patch takes over from another for the same baseline
// that it replaces in a process.
type Succession struct {
	// Held are the things of the new patch that the old one brought already,
	// by their overlay addresses: the program may hold the old one's address,
	// and the value of a variable is there.
	Held []Held
	// Steers lead from the old patch's functions, whose addresses the program
	// may hold, to what they are now.
	Steers []OverlaySteer
}

// Held is an address of the new overlay and that of the same thing in the old one.
type Held struct{ New, Old module.Addr }

// OverlaySteer leads from an entry in the old overlay to one in the new
// overlay, or to the baseline's.
type OverlaySteer struct {
	Name     string
	At, To   module.Addr
	Baseline bool
}

// Succeed works out what next takes over from prev. It fails when that cannot
// be told with certainty.
func Succeed(prev, next *Patch) (*Succession, error) {
	s := &Succession{}
	if !prev.leaves() {
		return s, nil
	}
	if prev.FixedFile == nil || next.FixedFile == nil {
		if !next.leaves() && !prev.Escapes {
			return s, nil // the variables are not used any more
		}
		return nil, fmt.Errorf("functions or variables that patch %s added are in use, and patch %s does not know them", prev.ID.Short(), next.ID.Short())
	}
	var mods [2]*module.Module
	for i, p := range []*Patch{prev, next} {
		m, err := module.New(p.FixedFile, p.Module)
		if err != nil {
			return nil, err
		}
		if m.Identity != p.Fixed {
			return nil, fmt.Errorf("%w: patch %s holds another build than it names", ErrFormat, p.ID.Short())
		}
		mods[i] = m
	}
	r, err := diff.Compare(mods[0], mods[1])
	if err != nil {
		return nil, err
	}
	if r.Verdict == diff.Refused {
		return nil, fmt.Errorf("between the fixed builds of patches %s and %s: %v", prev.ID.Short(), next.ID.Short(), r.Reasons[0])
	}
	if err := s.variables(prev, next, r); err != nil {
		return nil, err
	}
	return s, s.functions(prev, next, r)
}

// variable is where the overlay has a new variable of the fixed build.
func (p *Patch) variable(a module.Addr) (module.Addr, bool) {
	for _, v := range p.Variables {
		if v.Fixed.Contains(a) {
			return v.At + (a - v.Fixed.Start), true
		}
	}
	return 0, false
}

// variables finds the new variables of next that prev has already. None may
// count as new in one patch and as the baseline's in the other, and what prev
// does not have must be new.
func (s *Succession) variables(prev, next *Patch, r *diff.Result) error {
	for _, p := range next.Pairs {
		if o, ok := r.OldData(p[1]); ok {
			if _, fresh := prev.variable(o); fresh {
				return fmt.Errorf("patch %s has a new variable for the baseline's at %v", prev.ID.Short(), p[0])
			}
		}
	}
	held := make(map[module.Addr]bool)
	for _, f := range next.Fixups {
		if held[f.Target] || f.Kind != RelOverlay && f.Kind != AbsOverlay && f.Kind != NarrowOverlay {
			continue
		}
		for _, v := range next.Variables {
			if f.Target < v.At || f.Target-v.At >= module.Addr(v.Fixed.Len()) {
				continue
			}
			at := v.Fixed.Start + (f.Target - v.At)
			if o, paired := r.OldData(at); paired {
				old, had := prev.variable(o)
				if !had {
					return fmt.Errorf("the variable at %v in patch %s is no new one in patch %s", f.Target, next.ID.Short(), prev.ID.Short())
				}
				held[f.Target] = true
				s.Held = append(s.Held, Held{New: f.Target, Old: old})
			} else if _, fresh := r.Fresh(at); !fresh {
				return fmt.Errorf("the variable at %v in patch %s may be one of patch %s", f.Target, next.ID.Short(), prev.ID.Short())
			}
		}
	}
	return nil
}

// functions leads the addresses of prev's functions that a program may hold to
// what these are now.
func (s *Succession) functions(prev, next *Patch, r *diff.Result) error {
	if !prev.Escapes {
		return nil
	}
	now := make(map[module.Addr]module.Addr) // by entry in the fixed build
	for i := range next.Functions {
		now[next.Functions[i].Fixed[0].Start] = next.Functions[i].Ranges[0].Start
	}
	counterpart := make(map[*module.Func]*module.Func)
	for _, f := range r.New.Funcs {
		if o := r.OldOf(f); o != nil {
			counterpart[o] = f
		}
	}
	for i := range prev.Functions {
		f := &prev.Functions[i]
		st := OverlaySteer{Name: f.Name, At: f.Ranges[0].Start}
		old := r.Old.FuncAt(f.Fixed[0].Start)
		g := counterpart[old]
		switch {
		case old == nil || old.Entry() != f.Fixed[0].Start || len(old.Entries) != 1:
			return fmt.Errorf("function %s of patch %s has several entries", f.Name, prev.ID.Short())
		case g != nil && now[g.Ranges[0].Start] != 0:
			st.To = now[g.Ranges[0].Start]
		case f.Old != 0:
			st.To, st.Baseline = f.Old, true
		default:
			return fmt.Errorf("function %s, which patch %s added, is not in patch %s, and its address may be in use", f.Name, prev.ID.Short(), next.ID.Short())
		}
		const jump = 5 // bytes
		if f.Ranges[0].Len() < jump {
			return fmt.Errorf("function %s of patch %s is shorter than a jump", f.Name, prev.ID.Short())
		}
		if !st.Baseline {
			s.Held = append(s.Held, Held{New: st.To, Old: st.At})
		}
		s.Steers = append(s.Steers, st)
	}
	return nil
}
