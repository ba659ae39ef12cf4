package process

import (
	"encoding/binary"
	"sync"
)

func cpuid(leaf, sub uint32) (eax, ebx, ecx, edx uint32)
func xgetbv() (lo, hi uint32)

// tileData is AMX's state component. The kernel enables it per process and
// only on request (arch_prctl(2), ARCH_REQ_XCOMP_PERM).
const tileData = 18

// xstateSize is the length of an XSAVE area that holds the components in mask
// (Intel SDM vol. 1, 13.4.3: CPUID leaf 13 gives offset and size of each), and
// the components that it can hold.
func xstateSize(mask uint64) (size int, features uint64) {
	const legacy = 512 + 64 // FXSAVE image and header
	_, _, c, _ := cpuid(1, 0)
	if c>>27&1 == 0 { // no OSXSAVE
		return 0, 0
	}
	lo, hi := xgetbv()
	features = (uint64(hi)<<32 | uint64(lo)) & mask
	size = legacy
	for i := uint32(2); i < 63; i++ {
		if features>>i&1 == 0 {
			continue
		}
		length, offset, _, _ := cpuid(13, i)
		size = max(size, int(offset+length))
	}
	return size, features
}

// xlayout is the layout of XSAVE areas on this machine, without and with AMX's
// tiles. It is asked for once, before a stop: in a virtual machine each CPUID
// instruction costs tens of microseconds.
type xlayout struct{ plain, tiles xsize }

var xlayoutHere = sync.OnceValue(readXLayout)

type xsize struct {
	size     int
	features uint64
}

func readXLayout() (x xlayout) {
	x.plain.size, x.plain.features = xstateSize(^uint64(1 << tileData))
	x.tiles.size, x.tiles.features = xstateSize(^uint64(0))
	return x
}

// signalXState turns an XSAVE area that ptrace gave into one that
// rt_sigreturn(2) accepts: with the two magic numbers and the size around it
// (struct _fpx_sw_bytes, arch/x86/include/uapi/asm/sigcontext.h). The size must
// be what the thread may use, else the kernel restores the legacy part only.
func (x *xlayout) signalXState(area []byte) []byte {
	const (
		magic1, magic2 = 0x46505853, 0x46505845
		software       = 464 // bytes of the legacy area that are left to software
		inUse          = 512 // XSTATE_BV
	)
	if len(area) < inUse+8 {
		return area
	}
	le := binary.LittleEndian
	use := x.plain
	if le.Uint64(area[inUse:])>>tileData&1 != 0 {
		use = x.tiles
	}
	size, features := use.size, use.features
	if size == 0 || size > len(area) {
		return area
	}
	out := append(area[:size:size], 0, 0, 0, 0)
	clear(out[software:inUse])
	le.PutUint32(out[software:], magic1)
	le.PutUint32(out[software+4:], uint32(size+4))
	le.PutUint64(out[software+8:], features)
	le.PutUint32(out[software+16:], uint32(size))
	le.PutUint32(out[size:], magic2)
	return out
}
