package process

// OwnStacks are the parts of memory that hold the stacks of threads which were
// held, as far as they are certain to hold nothing else: the main thread's, and
// those that the C library made for others. Of these one knows that a guard lies
// below and the thread's own block, to which fs points (psABI 3.4.6, variant II
// of ELF TLS), at the upper end. A thread that runs on another stack has none, and
// one whose block is another's, too: a process that shares memory may have that.
func OwnStacks(maps []Mapping, threads []Thread) []Range {
	var out []Range
	users := make(map[uint64]int, len(threads))
	for i := range threads {
		users[threads[i].Regs.Fs_base]++
	}
	for i := range threads {
		sp, fs := Addr(threads[i].Regs.Rsp), Addr(threads[i].Regs.Fs_base)
		for j := range maps {
			m := &maps[j]
			if !m.Contains(sp) {
				continue
			}
			if m.Path == "[stack]" {
				out = append(out, m.Range)
			} else if m.Contains(fs) && sp < fs && users[uint64(fs)] == 1 {
				start := sp - redZone
				if j > 0 && maps[j-1].End == m.Start && maps[j-1].Prot == 0 {
					start = m.Start
				}
				out = append(out, Range{start, fs})
			}
			break
		}
	}
	return out
}

// redZone is what a function may use below its stack pointer, bytes (psABI 3.2.2).
const redZone = 128
