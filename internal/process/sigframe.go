package process

import (
	"encoding/binary"
)

// sigframe lays out a struct rt_sigframe (arch/x86/include/asm/sigframe.h) that
// takes a thread back to where it stands: what the kernel would have pushed for
// a signal handler. It is to lie at base, which is 8 less than a multiple of 64.
// rt_sigreturn(2) restores registers, FPU state and signal mask from it. The
// alternate stack has an invalid mode, so that it is left as it is. The frame
// is made in buf where that is large enough.
func sigframe(buf []byte, base Addr, restorer Addr, r *Regs, mask uint64, xstate []byte) []byte {
	const (
		ucFlags, stackFlags       = 8, 32
		context, sigmask, fpArea  = 48, 304, 568 // of the frame; base+fpArea is 64-byte aligned
		fpXState, ssValid, strict = 1, 2, 4      // uc_flags
	)
	b := append(buf[:0], make([]byte, fpArea)...)
	le := binary.LittleEndian
	le.PutUint64(b, uint64(restorer))
	le.PutUint64(b[ucFlags:], fpXState|ssValid|strict)
	le.PutUint32(b[stackFlags:], 0x7f) // no such mode: sigaltstack(2) EINVAL, which sigreturn ignores
	for i, v := range []uint64{
		r.R8, r.R9, r.R10, r.R11, r.R12, r.R13, r.R14, r.R15,
		r.Rdi, r.Rsi, r.Rbp, r.Rbx, r.Rdx, r.Rax, r.Rcx, r.Rsp, r.Rip, r.Eflags,
	} {
		le.PutUint64(b[context+8*i:], v)
	}
	le.PutUint16(b[context+144:], uint16(r.Cs))
	le.PutUint16(b[context+150:], uint16(r.Ss))
	le.PutUint64(b[context+184:], uint64(base)+fpArea)
	le.PutUint64(b[sigmask:], mask)
	return append(b, xstate...)
}

// again are the registers with which a thread makes its interrupted system
// call anew from the start; unchanged when it was in none.
// The state of restart_syscall(2) is lost in rt_sigreturn: that call begins anew.
func again(r Regs) Regs {
	if int64(r.Orig_rax) < 0 {
		return r
	}
	switch e := errnoOf(&r); {
	case e == restartSys, e == restartNoIntr, e == restartNoHand, e == restartBlock:
		r.Rax, r.Rip = r.Orig_rax, r.Rip-2
	}
	r.Orig_rax = ^uint64(0)
	return r
}
