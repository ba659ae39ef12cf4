// cc: gcc -O2 -fPIC -shared -x assembler-with-cpp
// BYTE: refused unresolved-indirect-jump
// INT: refused unresolved-indirect-jump
// NEAR: patchable other
// Jump tables into which other code leads, so that they seem to end there:
// what the comparison lets through says that they do not.
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
fun byte
  cmpb $0x81, %dil
  ja 9f
  movzbl %dil, %edi
  lea bytes(%rip), %rdx
  movslq (%rdx,%rdi,4), %rax
  add %rdx, %rax
  jmp *%rax
1: mov $1, %eax
  ret
2: mov $2, %eax
  ret
9:
#ifdef BYTE
  mov $8, %eax
#else
  mov $9, %eax
#endif
  ret
end byte
fun word
  cmpl $5, %edi
  ja 9f
  mov %edi, %edi
  lea words(%rip), %rdx
  movslq (%rdx,%rdi,4), %rax
  add %rdx, %rax
  jmp *%rax
3: mov $3, %eax
  ret
4: mov $4, %eax
  ret
9:
#ifdef INT
  mov $8, %eax
#else
  mov $9, %eax
#endif
  ret
end word
fun other
  lea bytes+8(%rip), %rax
  lea words+8(%rip), %rdx
#ifdef NEAR
  mov (%rax), %eax
  sub (%rdx), %eax
#else
  mov (%rax), %eax
  add (%rdx), %eax
#endif
  ret
end other
.section .rodata
.balign 4
bytes:
.rept 65
  .long 1b - bytes, 2b - bytes
.endr
words:
.rept 3
  .long 3b - words, 4b - words
.endr
.section .note.GNU-stack,"",@progbits
