"""A boot sector that does what every operating system does and says on the serial port how far it got.

`R`eal mode, `P`rotected mode, `L`ong mode (64 bit, paging), `U`ser mode, `B`ack by a system call, `T`imer.
The order is the test: an interrupt that was pending all the time must come last, when interrupts are allowed. Some
substitutes for virtualization reach 64-bit mode and deliver it at once, and no ordinary kernel boots on them.

Given as machine code with its assembly (AT&T syntax), so that nothing is assembled when Muster runs.
"""

#: What the serial port says when all is well, and QEMU's exit status then (isa-debug-exit: value * 2 + 1).
EXPECTED = b"RPLUBT"
EXIT_STATUS = 0x2A * 2 + 1
EXIT_PORT = 0xF4
#: SeaBIOS does not boot from a disk of a single sector.
_DISK_BYTES = 1 << 20
_SECTOR_BYTES = 512

_LISTING = """
# start, as the BIOS does: 16 bit, at 0x7c00
fa  # cli
31c0  # xor %ax, %ax
8ed8  # mov %ax, %ds
8ec0  # mov %ax, %es
8ed0  # mov %ax, %ss
bc007c  # mov $0x7c00, %sp
fc  # cld
ea127c0000  # ljmp $0, $1f
b052  # 1:  mov $'R', %al
e82e00  # call putc16
# page tables at 0x1000: first 2 MiB, one large page, user accessible
bf0010  # mov $0x1000, %di
31c0  # xor %ax, %ax
b90018  # mov $0x1800, %cx
f3ab  # rep stosw
c70600100720  # movw $0x2007, 0x1000
c70600200730  # movw $0x3007, 0x2000
c70600308700  # movw $0x0087, 0x3000
0f0116687d  # lgdt gdtr
0f20c0  # mov %cr0, %eax
0c01  # or $1, %al
0f22c0  # mov %eax, %cr0
ea4a7c0800  # ljmp $0x08, $prot
# putc16:
baf803  # mov $0x3f8, %dx
ee  # out %al, %dx
c3  # ret
# prot:
66b81000  # mov $0x10, %ax
8ed8  # mov %ax, %ds
8ec0  # mov %ax, %es
8ed0  # mov %ax, %ss
b050  # mov $'P', %al
66baf803  # mov $0x3f8, %dx
ee  # out %al, %dx
b820000000  # mov $0x20, %eax
0f22e0  # mov %eax, %cr4
b800100000  # mov $0x1000, %eax
0f22d8  # mov %eax, %cr3
b9800000c0  # mov $0xc0000080, %ecx
0f32  # rdmsr
80cc01  # or $0x1, %ah
0f30  # wrmsr
0f20c0  # mov %cr0, %eax
0d00000080  # or $0x80000000, %eax
0f22c0  # mov %eax, %cr0
ea897c00001800  # ljmp $0x18, $long
# long:
b04c  # mov $'L', %al
66baf803  # mov $0x3f8, %dx
ee  # out %al, %dx
# interrupt gates: vector 8 (the timer, as the BIOS left it) and 0x30 (from user mode); a stack for them
bf00500000  # mov $0x5000, %edi
c78780000000137d1800  # movl $(0x180000 + tick), 0x80(%rdi)
c78784000000008e0000  # movl $0x8e00, 0x84(%rdi)
c78700030000087d1800  # movl $(0x180000 + back), 0x300(%rdi)
c7870403000000ee0000  # movl $0xee00, 0x304(%rdi)
0f011c256e7d0000  # lidt idtr
c704250460000000780000  # movl $0x7800, 0x6004
66b82800  # mov $0x28, %ax
0f00d8  # ltr %ax
# with interrupts off, wait until the timer's is pending at the controller
b0fe  # mov $0xfe, %al
e621  # out %al, $0x21
b00a  # mov $0x0a, %al
e620  # out %al, $0x20
e420  # 4:  in $0x20, %al
a801  # test $1, %al
74fa  # jz 4b
# to user mode, interrupts still off: a pending one must stay pending
b823000000  # mov $0x23, %eax
50  # push %rax
68007a0000  # push $0x7a00
6802300000  # push $0x3002
6a3b  # push $0x3b
68fe7c0000  # push $user
48cf  # iretq
# user: a system call
b055  # mov $'U', %al
66baf803  # mov $0x3f8, %dx
ee  # out %al, %dx
cd30  # int $0x30
f4  # hlt
# back: now let the timer in
b042  # mov $'B', %al
66baf803  # mov $0x3f8, %dx
ee  # out %al, %dx
fb  # sti
f4  # 2:  hlt
ebfd  # jmp 2b
# tick: the end, told to QEMU's isa-debug-exit
b054  # mov $'T', %al
66baf803  # mov $0x3f8, %dx
ee  # out %al, %dx
b02a  # mov $0x2a, %al
e6f4  # out %al, $0xf4
f4  # 3:  hlt
ebfd  # jmp 3b
0f1f8000000000  # .p2align 3
# gdt:
0000000000000000  # .quad 0
ffff0000009acf00  # .quad 0x00cf9a000000ffff   # 08 code32
ffff00000092cf00  # .quad 0x00cf92000000ffff   # 10 data
ffff0000009aaf00  # .quad 0x00af9a000000ffff   # 18 code64
ffff000000f2cf00  # .quad 0x00cff2000000ffff   # 20 user data
6700006000890000  # .quad 0x0000890060000067   # 28 tss at 0x6000
0000000000000000  # .quad 0
ffff000000faaf00  # .quad 0x00affa000000ffff   # 38 user code64
3f00  # gdtr: .word gdtend - gdt - 1
287d0000  # .long gdt
ff03  # idtr: .word 0x3ff
0050000000000000  # .quad 0x5000
"""


def machine_code(listing: str) -> bytes:
    """The code of a listing: what stands before each line's comment, as hexadecimal digits."""
    return bytes.fromhex("".join(line.partition("#")[0] for line in listing.splitlines()))


def boot_disk(listing: str = _LISTING) -> bytes:
    """A raw disk that boots this code."""
    code = machine_code(listing)
    return code.ljust(_SECTOR_BYTES - 2, b"\0") + b"\x55\xaa" + bytes(_DISK_BYTES - _SECTOR_BYTES)
