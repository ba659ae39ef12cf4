# A unit whose types dwz has moved to another file: names and types are
# references into it (DW_FORM_GNU_strp_alt 0x1f21, DW_FORM_GNU_ref_alt 0x1f20).
	.text
	.globl fix
	.type fix, @function
fix:
	.cfi_startproc
	mov %edi, %eax
	ret
	.cfi_endproc
	.size fix, .-fix
	.section .debug_info,"",@progbits
	.long 2f-1f
1:	.value 4
	.long .debug_abbrev
	.byte 8
	.uleb128 1
	.quad fix
	.quad 4
	.value 12
	.uleb128 2
	.quad fix
	.quad 4
	.long 1 # name, in the other file
	.uleb128 3
	.long struct_at # type, in the other file
	.byte 0, 0
2:
	.section .debug_abbrev,"",@progbits
	.uleb128 1, 0x11
	.byte 1
	.uleb128 0x11, 1, 0x12, 7, 0x13, 5, 0, 0
	.uleb128 2, 0x2e
	.byte 1
	.uleb128 0x11, 1, 0x12, 7, 3, 0x1f21, 0, 0
	.uleb128 3, 5
	.byte 0
	.uleb128 0x49, 0x1f20, 0, 0
	.byte 0
	.section .note.GNU-stack,"",@progbits
