// cc: gcc -O2 -fPIC -shared -x assembler-with-cpp
// SHORT: refused entry-too-short
// BACK: refused jump-into-entry
// RETURN: refused jump-into-entry
// STRANGER: refused jump-into-entry
// NEAR: patchable near
.text
.macro fun name
.globl \name
.type \name, @function
\name: .cfi_startproc
.endm
.macro end name
.cfi_endproc
.size \name, .-\name
.endm
fun short
#ifdef SHORT
  cltq
#else
  cwtl
#endif
  ret
end short
fun close
  mov $4, %eax
  lea 1(%rax), %eax
  ret
end close
.p2align 4
fun back
  xor %eax, %eax
1: inc %eax
#ifdef BACK
  cmp $12, %eax
#else
  cmp $11, %eax
#endif
  jne 1b
  ret
end back
.p2align 4
fun return
  push %rax
  call *%rdi
  pop %rcx
#ifdef RETURN
  add $4, %eax
#else
  add $5, %eax
#endif
  ret
end return
.p2align 4
fun stranger
  nop
  xor %eax, %eax
2: inc %eax
#ifdef STRANGER
  add $4, %eax
#else
  add $5, %eax
#endif
  ret
end stranger
.p2align 4
fun caller
  sub $8, %rsp
  call 2b
  add $8, %rsp
  ret
end caller
.p2align 4
fun near
  call close@plt
#ifdef NEAR
  mov $3, %eax
#else
  mov $2, %eax
#endif
  ret
end near
.section .note.GNU-stack,"",@progbits
