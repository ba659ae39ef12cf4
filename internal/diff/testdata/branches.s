// cc: gcc -O2 -fPIC -shared -x assembler-with-cpp
// FORWARD: patchable forward
// BACK: patchable back
// CROWDED: refused short-branch
// TOUCHING: refused short-branch
// Branches of 8 bits out of a function that changes: they need a longer jump
// within their reach, where they lead, in the place of what is not moved.
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
.macro same name
.hidden \name
fun \name
  add $7, %eax
  lea 2(%rax,%rdi), %eax
  ret
end \name
.endm
.p2align 4
same before
.p2align 4
fun forward
#ifdef FORWARD
  mov $3, %eax
#else
  mov $2, %eax
#endif
  test %edi, %edi
  je 1f
  jmp after
1: jmp after
end forward
.p2align 4
same after
.p2align 4
fun back
  mov $4, %eax
#ifdef BACK
  add $5, %eax
#else
  sub $5, %eax
#endif
  jmp after
end back
.p2align 4
fun crowded
#ifdef CROWDED
  mov $6, %eax
#else
  mov $7, %eax
#endif
  cmp $5, %edi
  ja 2f
  jmp one
2: jmp two
end crowded
.p2align 4
.hidden one
fun one
  incl %eax
  ret
end one
.hidden two
fun two
  decl %eax
  ret
end two
.hidden three
fun three
  notl %eax
  ret
end three
fun touching
#ifdef TOUCHING
  mov $8, %eax
#else
  mov $9, %eax
#endif
  jmp three
end touching
.p2align 4
fun caller
  sub $8, %rsp
  call one
  call two
  call three
  call before
  call after
  add $8, %rsp
  ret
end caller
.section .note.GNU-stack,"",@progbits
