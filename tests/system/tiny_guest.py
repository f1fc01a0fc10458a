"""A guest of one sector: counts its boots on its disk, says so on the serial port, and obeys the ACPI power button.

Machine code with its assembly (AT&T syntax), so that tests need no assembler. On machine type `pc` alone: the power
management registers are where its BIOS puts them.
"""

from muster.host.hypervisor.libvirt.boot_probe import boot_disk

LISTING = r"""
# _start:
31c0  # xor %ax, %ax
8ed8  # mov %ax, %ds
8ec0  # mov %ax, %es
8ed0  # mov %ax, %ss
bc007c  # mov $0x7c00, %sp
fc  # cld
88167e7c  # mov %dl, drive
# the boot counter is the first byte of the second sector
b80102  # mov $0x0201, %ax
e84000  # call disk
fe06007e  # incb 0x7e00
b80103  # mov $0x0301, %ax
e83600  # call disk
be7f7c  # mov $text, %si
e83f00  # call print
a0007e  # mov 0x7e00, %al
0430  # add $'0', %al
e84100  # call putc
be917c  # mov $newline, %si
e83100  # call print
# enable the power button's event (PM1_EN), as an operating system does
ba0206  # mov $0x602, %dx
b80001  # mov $0x0100, %ax
ef  # out %ax, %dx
fb  # sti
f4  # 1:  hlt
ba0006  # mov $0x600, %dx
ed  # in %dx, %ax
f6c401  # test $1, %ah
74f6  # jz 1b
be947c  # mov $bye, %si
e81900  # call print
# soft off (PM1_CNT: SLP_TYP 0, SLP_EN)
ba0406  # mov $0x604, %dx
b80020  # mov $0x2000, %ax
ef  # out %ax, %dx
f4  # 2:  hlt
ebfd  # jmp 2b
# disk:
bb007e  # mov $0x7e00, %bx
b90200  # mov $0x0002, %cx
b600  # mov $0, %dh
8a167e7c  # mov drive, %dl
cd13  # int $0x13
c3  # ret
# print:
ac  # lodsb
84c0  # test %al, %al
7413  # jz 3f
e80200  # call putc
ebf6  # jmp print
# putc:
50  # push %ax
bafd03  # mov $0x3fd, %dx
ec  # 4:  in %dx, %al
a820  # test $0x20, %al
74fb  # jz 4b
58  # pop %ax
baf803  # mov $0x3f8, %dx
ee  # out %al, %dx
c3  # 3:  ret
00  # drive: .byte 0
74696e792067756573742c20626f6f742000  # text: .asciz "tiny guest, boot "
0d0a00  # newline: .asciz "\r\n"
706f77657220627574746f6e0d0a00  # bye: .asciz "power button\r\n"
"""


def tiny_disk() -> bytes:
    """A raw disk of 1 MiB with the guest on it."""
    return boot_disk(LISTING)
