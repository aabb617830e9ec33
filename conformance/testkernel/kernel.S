# A kernel that says what it was booted with on the first serial port, for
# machines that enter it as the 64-bit entry point of Linux is entered: long
# mode, memory mapped to itself, rsi = address of boot_params.

	.code64
	.globl _start
_start:
	cld
	mov	%rsi, %rbx
	lea	stack(%rip), %rsp
	lea	initrd(%rip), %rsi
	call	puts
	mov	0x218(%rbx), %esi	# ramdisk_image
	mov	0x21c(%rbx), %ecx	# ramdisk_size
	mov	$-1, %eax		# CRC-32 as in IEEE 802.3, bit by bit
	test	%ecx, %ecx
	jz	summed
byte:	xor	(%rsi), %al
	inc	%rsi
	mov	$8, %edx
bit:	shr	$1, %eax
	jnc	even
	xor	$0xedb88320, %eax
even:	dec	%edx
	jnz	bit
	dec	%ecx
	jnz	byte
summed:	not	%eax
	mov	%eax, %ebp
	mov	$8, %ecx
digit:	rol	$4, %ebp
	mov	%ebp, %eax
	and	$15, %eax
	cmp	$10, %eax
	jb	below
	add	$('a' - '0' - 10), %eax
below:	add	$'0', %eax
	call	putc
	dec	%ecx
	jnz	digit
	lea	line(%rip), %rsi
	call	puts
	mov	0x228(%rbx), %esi	# cmd_line_ptr
	call	puts
	lea	end(%rip), %rsi
	call	puts
stop:	hlt
	jmp	stop

puts:	lodsb
	test	%al, %al
	jz	done
	call	putc
	jmp	puts

putc:	mov	%eax, %edi
	mov	$0x3fd, %edx
full:	in	%dx, %al		# line status
	test	$0x20, %al
	jz	full
	mov	%edi, %eax
	mov	$0x3f8, %edx
	out	%al, %dx
done:	ret

initrd:	.asciz	"\r\ninitrd: crc32 "
line:	.asciz	"\r\ncommand line: "
end:	.asciz	"\r\n"

	.balign 16
	.fill	256, 1, 0
stack:
