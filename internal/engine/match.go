package engine

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"

	"hotpatch/internal/module"
	"hotpatch/internal/module/x86"
	"hotpatch/internal/patch"
	"hotpatch/internal/process"
)

// match finds the module of the process that is the patch's baseline: several
// where the dynamic linker has loaded it more than once (dlmopen(3)). A copy
// that somebody else mapped is not relocated as it would be.
func match(p *process.Process, mods []process.Module, loaded []loaded, pt *patch.Patch) ([]process.Module, error) {
	var seen []string
	var found []process.Module
	for i := range mods {
		m := &mods[i]
		if m.Path == "[vdso]" {
			continue
		}
		id, err := p.Identity(m)
		if errors.Is(err, process.ErrExited) && !p.Alive() || errors.Is(err, process.ErrTooLarge) {
			return nil, err
		}
		if err != nil {
			continue
		}
		if id == pt.Baseline {
			if err := trueHeaders(p, m); err != nil {
				return nil, err
			}
			found = append(found, *m)
		} else if m.Name() == pt.Module {
			seen = append(seen, fmt.Sprintf("%s has build-id %s", m.Path, id.BuildID))
		}
	}
	for _, m := range found {
		if len(found) > 1 && len(spacesOf(loaded, m.Bias)) == 0 {
			return nil, &Reason{Code: NoModule, Module: pt.Module, Detail: "the baseline is mapped more than once, and not by the dynamic linker"}
		}
	}
	if len(found) > 0 {
		return found, nil
	}
	detail := "it is not mapped"
	if len(seen) > 0 {
		detail = "another build is mapped: " + seen[0]
	}
	return nil, &Reason{Code: NoModule, Module: pt.Module, Detail: detail}
}

// trueHeaders makes sure that a module's headers in memory, which say where the
// rest of it lies, are those of its file.
func trueHeaders(p *process.Process, m *process.Module) error {
	f, err := p.File(m)
	if err != nil {
		return err
	}
	const header, entry = 64, 56 // bytes: Elf64_Ehdr, Elf64_Phdr
	mem, file := make([]byte, header+entry*len(f.Progs)), make([]byte, header+entry*len(f.Progs))
	if _, err := f.ReaderAt.ReadAt(file, 0); err != nil {
		return err
	}
	if err := p.Read(m.Maps[0].Start, mem); err != nil {
		return err
	}
	if !bytes.Equal(mem, file) {
		return &Reason{Code: NoModule, Module: m.Name(), Detail: "its headers in memory are not those of its file"}
	}
	return nil
}

// checkOld proves that the functions to be changed are, in memory and as a
// whole, what the baseline's file says; what a replaced patch changed apart.
func checkOld(p *process.Process, u *unit) error {
	f, err := p.File(&u.mod)
	if err != nil {
		return err
	}
	if err := trueFile(f, u.patch); err != nil {
		return err
	}
	for i := range u.patch.Old {
		o := &u.patch.Old[i]
		for _, r := range o.Ranges {
			mem, file := make([]byte, r.Len()), make([]byte, r.Len())
			if err := f.ReadAddr(r.Start, file); err != nil {
				return err
			}
			if err := p.Read(u.was(uint64(r.Start)), mem); err != nil {
				return err
			}
			if u.prev != nil {
				u.prev.asBaseline(u.was(uint64(r.Start)), mem, file)
			}
			if !bytes.Equal(mem, file) {
				return changed(u, o.Name, r.Start, mem, file)
			}
		}
	}
	return nil
}

// trueFile makes sure that a file holds the functions that a patch replaces,
// and the bytes that come back with a rollback.
func trueFile(f *process.File, pt *patch.Patch) error {
	for i := range pt.Old {
		o := &pt.Old[i]
		bad := func(what string) error {
			return &Reason{Code: BadPatch, Module: pt.Module, Function: o.Name, Detail: what}
		}
		h := sha256.New()
		for _, r := range o.Ranges {
			if r.End < r.Start || r.Len() > 64<<20 {
				return bad("range")
			}
			file := make([]byte, r.Len())
			if err := f.ReadAddr(r.Start, file); err != nil {
				return bad(err.Error())
			}
			h.Write(file)
		}
		if [32]byte(h.Sum(nil)) != o.Digest {
			return bad("the baseline's function is another")
		}
	}
	for i := range pt.Steers {
		s := &pt.Steers[i]
		var file patch.JumpBytes
		if err := f.ReadAddr(s.At, file[:]); err != nil || file != s.Old {
			return &Reason{Code: BadPatch, Module: pt.Module, Function: s.Name, Detail: "the baseline has other bytes where it is steered"}
		}
	}
	return nil
}

// changed describes the first difference between memory and file.
func changed(u *unit, name string, start module.Addr, mem, file []byte) error {
	i := firstDifference(mem, file)
	n := min(i+8, len(mem))
	return &Reason{
		Code: EntryChanged, Module: u.patch.Module, Function: name,
		Detail: fmt.Sprintf("changed by another at %v: expected % x, found % x", start+module.Addr(i), file[i:n], mem[i:n]),
	}
}

// switchesStacks says with what the program switches stacks: coroutines, which
// no walk finds while they are suspended. Empty when it does not. That a
// library could (libcrypto's asynchronous jobs) is not enough: every stack
// that makecontext(3) made holds the address of what its function returns to.
func switchesStacks(p *process.Process, maps []process.Mapping, mods []process.Module) string {
	var user string
	var start process.Addr
	for i := range mods {
		f, err := p.File(&mods[i])
		if err != nil {
			continue
		}
		for _, name := range []string{"jump_fcontext", "ontop_fcontext", "make_fcontext", "coro_transfer", "co_switch"} {
			if f.Named(name) != nil {
				return name + " in " + mods[i].Name()
			}
		}
		for _, name := range []string{"makecontext", "swapcontext", "setcontext"} {
			for _, s := range f.Named(name) {
				if s.Section == elf.SHN_UNDEF {
					user = name + " in " + mods[i].Name()
				} else if name == "makecontext" {
					start = contextStart(p, mods[i].Bias+process.Addr(s.Value), s.Size)
				}
			}
		}
	}
	const limit = 16 << 30 // bytes to search: some seconds
	if user == "" {
		return ""
	}
	if start == 0 {
		return user
	}
	switch at, err := p.FindWord(maps, uint64(start), limit); {
	case err != nil:
		return user + " (" + err.Error() + ")"
	case at != 0:
		return user + " (a stack that ends at " + at.String() + ")"
	}
	return ""
}

// contextStart is the address that glibc's makecontext puts on a new stack as
// the return address of its function: the one place in code whose address it
// takes (sysdeps/unix/sysv/linux/x86_64/makecontext.c). 0 when it is not found.
func contextStart(p *process.Process, a process.Addr, size uint64) process.Addr {
	code := make([]byte, min(size, 4096))
	if p.Read(a, code) != nil {
		return 0
	}
	for o := 0; o < len(code); {
		in, err := x86.Decode(code[o:])
		if err != nil {
			return 0
		}
		if in.RIP && in.Map == 0 && in.Opcode == 0x8d {
			return process.Addr(in.Target(uint64(a) + uint64(o)))
		}
		o += int(in.Len)
	}
	return 0
}
