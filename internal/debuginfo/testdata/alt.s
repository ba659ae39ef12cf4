# What dwz has moved: one struct with one member, at the offset 12.
	.section .debug_info,"",@progbits
	.long 2f-1f
1:	.value 4
	.long .debug_abbrev
	.byte 8
	.uleb128 1
	.uleb128 2 # at 12
	.long 5
	.byte SIZE
	.uleb128 3
	.long 10
	.long 3f
	.byte SIZE - 4
	.byte 0
3:	.uleb128 4
	.byte 4, 5
	.byte 0
2:
	.section .debug_abbrev,"",@progbits
	.uleb128 1, 0x3c
	.byte 1
	.uleb128 0, 0
	.uleb128 2, 0x13
	.byte 1
	.uleb128 3, 0xe, 0xb, 0xb, 0, 0
	.uleb128 3, 0xd
	.byte 0
	.uleb128 3, 0xe, 0x49, 0x13, 0x38, 0xb, 0, 0
	.uleb128 4, 0x24
	.byte 0
	.uleb128 0xb, 0xb, 0x3e, 0xb, 0, 0
	.byte 0
	.section .debug_str,"",@progbits
	.byte 0
	.string "fix"
	.string "pair"
	.string "last"
	.section .note.gnu.build-id,"a",@note
	.long 4, 8, 3
	.string "GNU"
	.byte 1, 2, 3, 4, 5, 6, 7, SIZE
	.section .note.GNU-stack,"",@progbits
