# Forms that compilers seldom write, by name, so that the assembler's and the
# disassembler's view of them are both compared.
	.intel_syntax noprefix
	.text
	.globl forms
	.type forms, @function
forms:
	.cfi_startproc
	endbr64
	endbr32
	# nops, alignment
	nop
	xchg ax, ax
	pause
	nop word ptr cs:[rax+rax]
	nop dword ptr [rax+0x12345678]
	.byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 2, 0, 0
	.nops 64
	.nops 11, 11
	.p2align 6
	lea rsi, [rsi+0]
	.byte 0x48, 0x66, 0x90
	.byte 0x66, 0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0
	# branches
1:	jmp 1b
	jmp 9f
	je 1b
	je 9f
	{disp32} jne 1b
	jrcxz 1b
	jecxz 1b
	loop 1b
	loope 1b
	loopne 1b
	bnd jmp 9f
	bnd call 9f
	bnd ret
	notrack jmp rax
	notrack jmp [rax*8+8]
	notrack call [rip+9f]
	call rax
	call [rbx+8]
	call [rip+9f]
	jmp [rip+9f]
	jmp fword ptr [rax]
	call fword ptr [rax]
	data16 lea rdi, [rip+9f]
	.value 0x6666
	rex.W call 9f
	.byte 0x66, 0xe9, 1, 2, 3, 4
	.byte 0x66, 0xe8, 1, 2, 3, 4
	.byte 0x66, 0x0f, 0x84, 1, 2, 3, 4
	.byte 0x3e, 0x74, 0, 0x2e, 0x75, 0
	xbegin 9f
	xabort 3
	xend
	xtest
	ret
	ret 8
	.byte 0xcb
	.byte 0xca, 8, 0
	iretq
	int3
	int 0x80
	int1
	hlt
	ud2
	ud1 eax, [rax+0x12345678]
	ud0 eax, ebx
	syscall
	sysenter
	uiret
	# integers
	movabs rax, 0x1122334455667788
	movabs al, [0x1122334455667788]
	movabs [0x1122334455667788], rax
	movabs eax, gs:[0x1122334455667788]
	addr32 mov eax, [0x11223344]
	mov ax, 0x1122
	mov word ptr [rax], 0x1122
	mov dword ptr [rip+9f], 0x11223344
	mov qword ptr [rip+9f], 0x11223344
	mov eax, [eip+0x10]
	mov rax, fs:[0x28]
	mov rax, gs:[rip+9f]
	mov eax, [r13]
	mov eax, [r12]
	mov eax, [rbp+r12*8]
	mov eax, [esp+8]
	mov es, [rax]
	mov [rax], ds
	imul ax, [rax], 0x1122
	imul eax, [rax], 0x11223344
	imul rax, [rax], 0x11
	push 0x11223344
	pushw 0x1122
	push 0x11
	push [rip+9f]
	pop [rax]
	enter 0x1122, 3
	leave
	test byte ptr [rip+9f], 5
	test word ptr [rip+9f], 0x1122
	test rax, 0x11223344
	not byte ptr [rax]
	neg qword ptr [rax+rbx]
	div word ptr [rax]
	lock xadd [rax], rcx
	xacquire lock cmpxchg [rax], ecx
	lock cmpxchg8b [rax]
	lock cmpxchg16b [rax]
	bt dword ptr [rax], 3
	bts [rax], rcx
	shld [rax], rcx, 5
	shrd word ptr [rax], cx, cl
	movbe rax, [rbx]
	movbe [rbx], cx
	crc32 eax, byte ptr [rbx]
	crc32 rax, qword ptr [rbx]
	popcnt ax, [rbx]
	lzcnt rax, [rbx]
	tzcnt eax, [rbx]
	adcx rax, [rbx]
	adox eax, [rbx]
	movzx eax, byte ptr [rbx]
	movzx rax, word ptr [rbx]
	movsx ax, byte ptr [rbx]
	movsxd rax, dword ptr [rbx]
	rep movsb
	rep stosq
	repnz scasw
	lods al, byte ptr gs:[rsi]
	outs dx, byte ptr [rsi]
	in al, 5
	xlatb
	movnti [rax], rcx
	movdiri [rax], rcx
	movdir64b rax, [rcx]
	enqcmd rax, [rcx]
	enqcmds eax, [ecx]
	rdrand rax
	rdseed ecx
	rdpid rax
	rdfsbase rax
	wrgsbase ecx
	rdtscp
	clflushopt [rax]
	clwb [rax]
	cldemote [rax]
	prefetchw [rax]
	prefetchwt1 [rax]
	prefetcht0 [rip+9f]
	prefetchit0 [rip+9f]
	xsavec64 [rax]
	xrstor [rax]
	fxsave [rax]
	ldmxcsr [rax]
	lfence
	mfence
	sfence
	umonitor rax
	umwait eax
	tpause ecx
	ptwrite qword ptr [rax]
	serialize
	aadd [rax], ecx
	axor [rax], rcx
	wrpkru
	monitorx
	mwaitx
	clzero
	rdpru
	vmcall
	# CET
	rdsspq rax
	rdsspd ecx
	incsspq rax
	saveprevssp
	rstorssp [rax]
	wrssq [rax], rcx
	wrssd [rax], ecx
	clrssbsy [rax]
	setssbsy
	# x87, MMX, 3DNow!
	fld tbyte ptr [rax]
	fstp tbyte ptr [rip+9f]
	fild qword ptr [rax]
	fistp word ptr [rax]
	fisttp dword ptr [rax]
	fbld [rax]
	fnstenv [rax]
	fldenv [rax]
	fnsave [rax]
	frstor [rax]
	fstcw [rsp]
	fnstcw [rsp]
	fldcw [rsp]
	fnstsw ax
	fstsw [rax]
	wait
	fcmovnbe st, st(3)
	fucomip st, st(1)
	fcompp
	ffreep st(2)
	fninit
	emms
	femms
	pfadd mm1, [rax+4]
	pfrcp mm1, mm2
	pswapd mm1, [rip+9f]
	pavgusb mm3, [rax+rcx]
	movq mm1, [rax]
	pshufw mm1, [rax], 3
	pinsrw mm1, [rax], 1
	maskmovq mm1, mm2
	cvtpi2ps xmm1, [rax]
	cvttps2pi mm1, [rax]
	# SSE to SSE4, AES, SHA, key locker
	extrq xmm1, 3, 4
	extrq xmm1, xmm2
	insertq xmm1, xmm2, 3, 4
	insertq xmm1, xmm2
	movntss [rax], xmm1
	movntsd [rax], xmm1
	movss xmm1, [rip+9f]
	movsd xmm1, [rip+9f]
	movaps xmm9, [rip+9f]
	movlps xmm1, [rax]
	movhpd [rax], xmm1
	movddup xmm1, [rax]
	movshdup xmm1, [rax]
	cvtsi2sd xmm1, qword ptr [rax]
	cvtss2sd xmm1, [rax]
	cvtps2pd xmm1, [rax]
	cvtdq2pd xmm1, [rax]
	cmpltps xmm1, [rax]
	cmpnlesd xmm1, [rax]
	ucomiss xmm1, [rax]
	comisd xmm1, [rax]
	palignr xmm1, [rip+9f], 4
	pmovzxbq xmm1, [rax]
	pmovsxwd xmm1, [rax]
	pextrb [rax], xmm1, 3
	pextrq [rax], xmm1, 1
	insertps xmm1, [rax], 0x10
	roundsd xmm1, [rax], 3
	roundss xmm1, [rax], 3
	pblendvb xmm1, [rax], xmm0
	pcmpistri xmm1, [rip+9f], 0xc
	pclmulqdq xmm1, [rax], 0x11
	aesenc xmm1, [rax]
	aeskeygenassist xmm1, [rax], 1
	sha1rnds4 xmm1, [rax], 2
	sha256rnds2 xmm1, [rax], xmm0
	gf2p8affineqb xmm1, [rax], 3
	aesenc128kl xmm1, [rax]
	aesdecwide256kl [rax]
	encodekey128 eax, ecx
	loadiwkey xmm1, xmm2
	xcryptecb
	xsha256
	montmul
	# VEX
	vzeroupper
	vzeroall
	vmovaps ymm1, [rip+9f]
	vaddps ymm1, ymm2, [r12+rcx*4+0x12345678]
	vaddss xmm1, xmm2, [rip+9f]
	vbroadcastss ymm1, [rax]
	vbroadcastf128 ymm1, [rax]
	vinsertf128 ymm1, ymm2, [rax], 1
	vperm2i128 ymm1, ymm2, [rip+9f], 0x21
	vpermq ymm1, [rax], 0xd8
	vpgatherdd ymm1, [rax+ymm2*4], ymm3
	vgatherqpd ymm1, [rax+ymm2*8+0x10], ymm3
	vpmaskmovd [rax], ymm1, ymm2
	vblendvps ymm1, ymm2, [rax], ymm3
	vcvtph2ps ymm1, [rax]
	vcvtps2ph [rax], ymm1, 3
	vfmadd231sd xmm1, xmm2, [rip+9f]
	vfmaddsub213ps ymm1, ymm2, [rax]
	vpclmulqdq ymm1, ymm2, [rax], 1
	vaesenc ymm1, ymm2, [rax]
	vpcmpestri xmm1, [rax], 3
	vpsrldq ymm1, ymm2, 3
	vpsllw ymm1, ymm2, [rax]
	vpdpbusd ymm1, ymm2, [rax]
	{vex} vpdpbusd ymm1, ymm2, [rax]
	{vex} vpmadd52luq ymm1, ymm2, [rax]
	vpdpbssd ymm1, ymm2, [rax]
	vbcstnebf162ps ymm1, [rax]
	vcvtneeph2ps ymm1, [rax]
	cmpbexadd [rax], rcx, rdx
	vldmxcsr [rax]
	vmaskmovdqu xmm1, xmm2
	andn rax, rcx, [rip+9f]
	bextr rax, [rip+9f], rcx
	blsi rax, [rcx]
	bzhi eax, [rcx], edx
	pdep rax, rcx, [rdx]
	pext eax, ecx, [rdx]
	mulx rax, rcx, [rdx]
	rorx rax, [rcx], 5
	sarx eax, [rcx], edx
	kmovb k1, [rax]
	kmovq k1, [rax]
	kmovd k1, eax
	kandw k1, k2, k3
	kunpckdq k1, k2, k3
	kshiftlq k1, k2, 3
	kortestb k1, k2
	# FMA4, XOP, TBM, LWP
	vfmaddpd ymm1, ymm2, ymm3, [rip+9f]
	vfmaddpd ymm1, ymm2, [rip+9f], ymm3
	vfnmsubss xmm1, xmm2, [rax], xmm3
	vfmaddsd xmm1, xmm2, xmm3, [rax]
	vpermil2ps xmm1, xmm2, [rax], xmm3, 1
	vpcmov ymm1, ymm2, [rip+9f], ymm3
	vpperm xmm1, xmm2, xmm3, [rax]
	vprotd xmm1, [rax], 3
	vprotw xmm1, xmm2, [rax]
	vpcomltub xmm1, xmm2, [rip+9f]
	vpmacsdd xmm1, xmm2, [rax], xmm3
	vphaddbw xmm1, [rax]
	vfrczsd xmm1, [rax]
	bextr eax, [rip+9f], 0x1234
	blcfill rax, [rip+9f]
	tzmsk eax, [rax]
	lwpins rax, [rip+9f], 0x11223344
	lwpval rax, ecx, 5
	llwpcb rax
	# AMX
	ldtilecfg [rax]
	sttilecfg [rax]
	tileloadd tmm1, [rax+rcx*2]
	tileloaddt1 tmm1, [rax+rcx*2+0x10]
	tilestored [rax+rcx*2], tmm1
	tdpbssd tmm1, tmm2, tmm3
	tdpbf16ps tmm1, tmm2, tmm3
	tdpfp16ps tmm1, tmm2, tmm3
	tilezero tmm1
	tilerelease
	# EVEX
	vaddps zmm1{k1}{z}, zmm2, [rip+9f]
	vaddps zmm1, zmm2, [rax+0x40]
	vaddps zmm1, zmm2, [rax+0x41]
	vaddps zmm31{k7}, zmm30, dword ptr [r15+r14*8+4]{1to16}
	vaddpd zmm17, zmm18, qword ptr [rip+9f]{1to8}
	vaddpd zmm1, zmm2, zmm3, {rz-sae}
	vaddsd xmm17, xmm18, [rax+8]
	vaddss xmm17{k1}, xmm18, [rip+9f]
	vmovdqu8 zmm1{k1}, [rax+0x1000]
	vmovdqu16 ymm17, [rax]
	vmovdqa64 [rip+9f], zmm5
	vmovntdq [rax+0x40], zmm1
	vpternlogq zmm1, zmm2, qword ptr [rax]{1to8}, 0x55
	vcmppd k1{k2}, zmm1, [rip+9f], 3
	vpcmpub k1, zmm1, [rax], 6
	vpgatherqq zmm1{k1}, [rax+zmm2*8+8]
	vscatterdpd [rax+ymm2*4]{k1}, zmm1
	vpcompressb [rax]{k1}, zmm1
	vpexpandw zmm1{k1}{z}, [rax+2]
	vpmovqb [rax+8]{k1}, zmm1
	vpmovzxbq zmm1, [rax+8]
	vcvtdq2pd zmm1, dword ptr [rax]{1to8}
	vcvtps2pd zmm1, [rax+0x20]
	vcvtps2ph [rax+0x20], zmm1, 3
	vcvtusi2sd xmm1, xmm2, qword ptr [rip+9f]
	vcvttsd2usi rax, [rax+8]
	vbroadcastf32x8 zmm1, [rax+0x20]
	vbroadcasti64x2 zmm1, [rax+0x10]
	vextracti32x4 [rip+9f], zmm1, 3
	vinsertf64x4 zmm1, zmm2, [rax+0x20], 1
	vpsrlq zmm1, zmm2, [rax+0x10]
	vpsrlq zmm1, [rax+0x40], 3
	vprord zmm1, dword ptr [rax+4]{1to16}, 3
	vpslldq zmm1, [rax+0x40], 3
	vfpclassps k1, zmmword ptr [rax], 5
	vgetmantsd xmm1, xmm2, [rax+8], 3
	vrangepd zmm1, zmm2, [rip+9f], 3
	vp2intersectd k2, zmm1, [rax]
	vpopcntb zmm1, [rax]
	vpshldvd zmm1, zmm2, [rax]
	vpmultishiftqb zmm1, zmm2, qword ptr [rax]{1to8}
	vdpbf16ps zmm1, zmm2, [rax]
	vcvtne2ps2bf16 zmm1, zmm2, [rax]
	vaesdeclast zmm1, zmm2, [rax+0x40]
	vgf2p8affineinvqb zmm1, zmm2, [rip+9f], 3
	v4fmaddps zmm4, zmm8, [rax+0x10]
	v4fnmaddss xmm4, xmm8, [rax+0x10]
	vp4dpwssd zmm4, zmm8, [rax+0x10]
	vgatherpf0dps [rax+zmm1*4]{k1}
	vexp2ps zmm1, [rax]
	vrcp28ss xmm1, xmm2, [rax+4]
	vaddph zmm1{k1}, zmm2, word ptr [rax+2]{1to32}
	vaddsh xmm1, xmm2, [rip+9f]
	vmovsh xmm1, [rax+2]
	vmovw [rax+2], xmm1
	vcvtph2pd zmm1, [rax+0x10]
	vcvtpd2ph xmm1, qword ptr [rax]{1to8}
	vcvtsh2usi rax, [rax+2]
	vfcmaddcph zmm1, zmm2, [rip+9f]
	vfmulcsh xmm1, xmm2, [rax+4]
	vfmadd213sh xmm1, xmm2, [rax+2]
	vcmpph k1, zmm1, [rip+9f], 3
	vrndscaleph zmm1, [rip+9f], 3
	vfpclasssh k1, [rax+2], 3
9:	ret
	.cfi_endproc
	.size forms, . - forms
	.section .note.GNU-stack, "", @progbits
