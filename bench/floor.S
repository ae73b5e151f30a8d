/* usage: floor LOCK COMMAND [ARGUMENT]...

   The least that any tool of this kind can cost: becomes COMMAND and takes no lock. x86-64 Linux. */

        .globl  _start
_start:
        mov     (%rsp), %rax            # argc
        lea     16(%rsp,%rax,8), %rdx   # the environment
        lea     24(%rsp), %rsi          # argv + 2
        mov     (%rsi), %rdi            # COMMAND
        mov     $59, %eax               # execve
        syscall
        mov     $127, %edi              # it came back: failed
        mov     $60, %eax               # exit
        syscall
        ud2

        .section .note.GNU-stack, "", @progbits
