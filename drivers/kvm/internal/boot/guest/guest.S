# The built-in guest: 64-bit code that finds out about its machine, tells it on
# the first serial port and obeys commands read from there.
#
# Entered like the 64-bit entry of Linux: long mode, identity paging of at least
# this image and the info page, flat segments, interrupts off, RSI = address of
# the info page (guest.go). Everything else it sets up itself.
#
# A KVM without hardware support interprets every instruction, so the code
# keeps to plain ones: no string, vector or bit instructions, and no IRETQ,
# which the kernel's interpreter does not know in long mode. Interrupts are
# only ever open at the HLT in idle, so a handler drops its frame and returns
# from idle instead.
#
# Registers: r15 holds the info page all the time. A routine may change rax,
# rcx, rdx, rsi, rdi and r8-r11 and keeps the rest.

	.intel_syntax noprefix
	.code64
	.text

# Memory of the guest. The same numbers stand in layout.go; a test compares them.
	.set IMAGE,	0x100000
	.set VARS,	0x104000
	.set IDT,	0x105000
	.set STACK_TOP,	0x108000
	.set KVMCLOCK,	0x109000	# the page between is the info page
	.set PML4,	0x10a000
	.set PDPT,	0x10b000
	.set PD0,	0x10c000	# 0..1 GiB: the first 2 MiB only
	.set PD1,	0x10d000	# 1..2 GiB: the window in its first 2 MiB
	.set PD3,	0x10e000	# 3..4 GiB: the APIC pages
	.set DEVICES,	0x110000	# devices.c, up to FREE
	.set FREE,	0x200000	# fill, sum and mem use memory from here up
	.set WINDOW,	0x40000000
	.set AP_CODE,	0x8000		# page number = start-up vector
	.set AP_COUNT,	AP_CODE + 0xf00
	.set AP_SPIN,	AP_CODE + 0xf04
	.set NOWHERE,	0xf0000000	# in the hole below 4 GiB, no device there

# Info page.
	.set I_MAGIC,	0
	.set I_CPUS,	16
	.set I_RANGES,	20
	.set I_SERIAL,	24
	.set I_SERIALGSI, 28
	.set I_SLEEP,	32
	.set I_SLEEPVAL, 34
	.set I_RESET,	36
	.set I_RESETVAL, 38
	.set I_EVENT,	40
	.set I_EVENTGSI, 44
	.set I_EVENTMASK, 48
	.set I_IOAPIC,	52
	.set I_LAPIC,	56
	.set I_CMDLINE,	60
	.set I_ECAM,	64
	.set I_BARS,	68
	.set I_RANGE,	128

# Variables. A constant must be set above its use: gas takes a name that it does
# not know yet for an address.
	.set V_ROOM,	VARS + 0	# bytes the transmit FIFO still takes
	.set V_FIFO,	VARS + 4	# its size
	.set V_IRQ,	VARS + 8	# 1: idle by HLT
	.set V_LASTCR,	VARS + 12	# the last character ended a line by CR
	.set V_SP,	VARS + 16	# stack pointer inside idle
	.set V_WINDOW,	VARS + 24	# address the window shows
	.set V_CLOCK,	VARS + 32	# 1: kvmclock works
	.set V_BASE,	VARS + 40	# kvmclock at the start
	.set V_TOTAL,	VARS + 48	# bytes of RAM stated
	.set V_END,	VARS + 56	# end of the highest range
	.set V_RANGE,	VARS + 64	# walk: next range, as an offset into the info page
	.set V_LEFT,	VARS + 72	# walk: ranges left
	.set V_CUR,	VARS + 80	# walk: next address
	.set V_STOP,	VARS + 88	# walk: end of the current range
	.set V_NUM,	VARS + 96	# decimal digits, 24 bytes, NUL at the end
	.set V_LINE,	VARS + 256
	.set LINE_MAX,	255

	.set EXCEPTION_SIZE, 8
	.set VEC_SERIAL, 0x30
	.set VEC_EVENT,	0x31
	.set VEC_SPURIOUS, 0x3f

# say "text" prints a constant. Strings are kept behind the code.
	.macro say text
	lea	rsi, [rip + text\@]
	call	puts
	.text	1
text\@:	.asciz	"\text"
	.text	0
	.endm

	.globl	start
start:
	cli
	mov	r15, rsi
	mov	esp, STACK_TOP
	mov	rax, 0x3154534555475650		# "PVGUEST1"
	cmp	rax, [r15 + I_MAGIC]
	je	1f
	hlt					# not our info page: no port to complain on
	jmp	start

1:	call	paging
	call	descriptors
	call	serial_init
	call	apic_init
	call	clock_init
	mov	edi, [r15 + I_ECAM]
	mov	esi, [r15 + I_LAPIC]
	mov	esi, [rsi + 0x20]
	shr	esi, 24
	call	devices_init

	say	"\npolyvisor built-in guest 1\n"
	call	show_memory
	xor	eax, eax
	mov	[AP_SPIN], eax
	call	show_cpus

	call	find_auto
	test	rsi, rsi
	jz	1f
	call	execute
1:	say	"type help for the commands\n"
prompt:
	say	"pv> "
	call	read_line
	mov	esi, V_LINE
	call	execute
	jmp	prompt

# ---------------------------------------------------------------- set-up

# paging replaces the tables of the loader, whose reach is its own affair, by
# three pages of 2 MiB: the guest itself, the APICs, and a movable window
# through which all other memory is used.
paging:
	mov	dword ptr [PML4], PDPT + 3
	mov	dword ptr [PDPT], PD0 + 3
	mov	dword ptr [PDPT + 8], PD1 + 3
	mov	dword ptr [PDPT + 24], PD3 + 3
	mov	dword ptr [PD0], 0x83
	mov	eax, 0x9b			# present, writable, uncached, 2 MiB
	mov	edx, [r15 + I_IOAPIC]
	call	1f
	mov	edx, [r15 + I_LAPIC]
	call	1f
	cmp	dword ptr [r15 + I_ECAM], 0
	je	2f
	mov	edx, [r15 + I_ECAM]
	call	1f
	mov	edx, [r15 + I_BARS]
	call	1f
2:	mov	eax, PML4
	mov	cr3, rax
	xor	edi, edi
	jmp	window_set
1:	and	edx, 0xffe00000
	mov	ecx, edx
	sub	ecx, 0xc0000000
	shr	ecx, 21
	or	edx, eax
	mov	[PD3 + rcx * 8], edx
	ret

# window shows the 2 MiB around the address rdi; rax = where it is seen.
window:
	mov	rax, rdi
	and	rax, -0x200000
	cmp	rax, [V_WINDOW]
	je	1f
window_set:
	mov	rax, rdi
	and	rax, -0x200000
	mov	[V_WINDOW], rax
	or	rax, 0x83
	mov	[PD1], rax
	mov	rax, cr3
	mov	cr3, rax
1:	mov	rax, rdi
	and	eax, 0x1fffff
	add	eax, WINDOW
	ret

# descriptors keeps the code selector of the loader (0x08 or 0x10 by the two
# usual conventions) and points every gate at it.
descriptors:
	sub	rsp, 16
	mov	word ptr [rsp], gdt_end - gdt - 1
	lea	rax, [rip + gdt]
	mov	[rsp + 2], rax
	lgdt	[rsp]
	lea	rax, [rip + exceptions]
	mov	edi, IDT
	mov	ecx, 32
1:	call	gate
	add	rax, EXCEPTION_SIZE
	sub	ecx, 1
	jnz	1b
	lea	rax, [rip + interrupt]
	mov	edi, IDT + 16 * VEC_SERIAL
	call	gate
	mov	edi, IDT + 16 * VEC_EVENT
	call	gate
	lea	rax, [rip + spurious]
	mov	edi, IDT + 16 * VEC_SPURIOUS
	call	gate
	mov	word ptr [rsp], 64 * 16 - 1
	mov	qword ptr [rsp + 2], IDT
	lidt	[rsp]
	add	rsp, 16
	ret

# gate makes the interrupt gate at rdi lead to rax and moves rdi to the next.
gate:
	mov	[rdi], ax
	mov	dx, cs
	mov	[rdi + 2], dx
	mov	word ptr [rdi + 4], 0x8e00
	mov	rdx, rax
	shr	rdx, 16
	mov	[rdi + 6], dx
	shr	rdx, 16
	mov	[rdi + 8], rdx
	add	rdi, 16
	ret

	.balign	8, 0
gdt:	.quad	0
	.quad	0x00af9b000000ffff	# 0x08 code, 64 bit
	.quad	0x00af9b000000ffff	# 0x10 code, 64 bit
	.quad	0x00cf93000000ffff	# 0x18 data
gdt_end:

# exceptions has one entry of EXCEPTION_SIZE bytes for each vector.
exceptions:
	.set	vector, 0
	.rept	32
	push	vector
	jmp	exception
	.org	exceptions + (vector + 1) * EXCEPTION_SIZE, 0
	.set	vector, vector + 1
	.endr

# exception tells what happened and gives up in a way that the host sees.
exception:
	mov	ecx, [rsp]
	mov	rbx, [rsp + 8]
	mov	eax, 0x60227d00			# vectors that push an error code
	shr	eax, cl
	test	al, 1
	jz	1f
	mov	rbx, [rsp + 16]
1:	mov	esp, STACK_TOP
	mov	ebp, ecx
	say	"\nexception "
	mov	eax, ebp
	call	put_dec
	say	" at 0x"
	mov	rax, rbx
	call	put_hex
	say	"\n"
	jmp	triple

# ---------------------------------------------------------------- interrupts

apic_init:
	mov	ebx, [r15 + I_LAPIC]
	mov	dword ptr [rbx + 0xf0], 0x100 + VEC_SPURIOUS	# enable
	mov	dword ptr [rbx + 0x80], 0	# accept every priority
	mov	dword ptr [rbx + 0x350], 0x10000	# no interrupts from the 8259
	mov	ebp, [rbx + 0x20]		# own id, in the place of the destination field
	mov	eax, [r15 + I_SERIALGSI]
	mov	edx, VEC_SERIAL
	call	1f
	cmp	word ptr [r15 + I_EVENT], 0
	je	2f
	mov	eax, [r15 + I_EVENTGSI]
	mov	edx, VEC_EVENT
	call	1f
2:	lea	rsi, [rip + word_noirq]
	call	find_word
	test	rax, rax
	jnz	3f
	mov	dword ptr [V_IRQ], 1
3:	ret
1:	mov	ecx, [r15 + I_IOAPIC]		# route line eax to vector edx: edge, fixed
	add	eax, eax
	add	eax, 0x11
	mov	[rcx], eax
	mov	[rcx + 0x10], ebp
	sub	eax, 1
	mov	[rcx], eax
	mov	[rcx + 0x10], edx
	ret

# idle waits for an interrupt. An event that came since the caller looked is
# latched in the APIC and ends the HLT at once.
idle:
	cmp	dword ptr [V_IRQ], 0
	je	1f
	mov	[V_SP], rsp
	sti
	hlt
	cli
	ret
1:	pause
	ret

interrupt:
	mov	eax, [r15 + I_LAPIC]
	mov	dword ptr [rax + 0xb0], 0	# end of interrupt
spurious:
	mov	rsp, [V_SP]
	ret

# ---------------------------------------------------------------- serial port

serial_init:
	movzx	edx, word ptr [r15 + I_SERIAL]
	add	edx, 1
	xor	eax, eax
	out	dx, al				# interrupts off
	add	edx, 2
	mov	al, 0x83
	out	dx, al				# divisor latch
	sub	edx, 3
	mov	al, 1
	out	dx, al				# 115200 baud
	add	edx, 1
	xor	eax, eax
	out	dx, al
	add	edx, 2
	mov	al, 3
	out	dx, al				# 8 bits, no parity
	sub	edx, 1
	mov	al, 7
	out	dx, al				# FIFOs on and empty
	add	edx, 2
	mov	al, 0x0b
	out	dx, al				# DTR, RTS, interrupt line on
	sub	edx, 2
	in	al, dx
	mov	ecx, 1
	and	al, 0xc0
	cmp	al, 0xc0
	jne	1f
	mov	ecx, 16
1:	mov	[V_FIFO], ecx
	sub	edx, 1
	mov	al, 1
	out	dx, al				# interrupt on received data
	ret

# wait_line waits, with a bound, until bit ah of the line status is set.
wait_line:
	movzx	edx, word ptr [r15 + I_SERIAL]
	add	edx, 5
	mov	ecx, 100000
1:	in	al, dx
	test	al, ah
	jnz	2f
	sub	ecx, 1
	jnz	1b
2:	ret

# putc sends al, by the virtio console if there is one. It keeps rsi and rdi.
putc:
	push	rax
	push	rsi
	push	rdi
	movzx	edi, al
	call	console_put
	test	eax, eax
	pop	rdi
	pop	rsi
	jz	2f
	pop	rax
	ret
2:
	cmp	dword ptr [V_ROOM], 0
	jne	1f
	mov	ah, 0x20
	call	wait_line
	mov	eax, [V_FIFO]
	mov	[V_ROOM], eax
1:	movzx	edx, word ptr [r15 + I_SERIAL]
	pop	rax
	out	dx, al
	sub	dword ptr [V_ROOM], 1
	ret

# puts sends the string at rsi, with CR before LF.
puts:
	movzx	eax, byte ptr [rsi]
	test	eax, eax
	jz	2f
	cmp	eax, 10
	jne	1f
	mov	al, 13
	call	putc
	mov	al, 10
1:	call	putc
	add	rsi, 1
	jmp	puts
2:	ret

newline:
	lea	rsi, [rip + lf]
	jmp	puts
lf:	.asciz	"\n"

# put_dec prints rax.
put_dec:
	mov	esi, V_NUM + 23
	mov	ecx, 10
1:	xor	edx, edx
	div	rcx
	add	dl, 48
	sub	rsi, 1
	mov	[rsi], dl
	test	rax, rax
	jnz	1b
	jmp	puts

# put_hex prints rax in 16 digits.
put_hex:
	mov	esi, V_NUM + 23
	mov	ecx, 16
1:	mov	edx, eax
	and	edx, 15
	add	edx, 48
	cmp	edx, 58
	jb	2f
	add	edx, 39
2:	sub	rsi, 1
	mov	[rsi], dl
	shr	rax, 4
	sub	ecx, 1
	jnz	1b
	jmp	puts

# getc waits for a character, asleep, and answers the power button meanwhile.
getc:
	call	devices_poll
	call	console_get
	cmp	eax, -2
	je	3f
	cmp	eax, -1
	je	4f
	ret
3:	movzx	edx, word ptr [r15 + I_SERIAL]
	add	edx, 5
	in	al, dx
	test	al, 1
	jnz	2f
4:	movzx	edx, word ptr [r15 + I_EVENT]
	test	edx, edx
	jz	1f
	in	al, dx				# which forgets what it tells
	and	al, [r15 + I_EVENTMASK]
	jnz	power_button
1:	call	idle
	jmp	getc
2:	sub	edx, 5
	in	al, dx
	movzx	eax, al
	ret

# read_line reads a line into V_LINE with echo. CR, LF and CR LF end it;
# backspace and DEL take back a character, ^U the line.
read_line:
	push	rbx
	xor	ebx, ebx
1:	call	getc
	mov	ecx, [V_LASTCR]
	mov	dword ptr [V_LASTCR], 0
	cmp	eax, 10
	jne	2f
	test	ecx, ecx
	jnz	1b
	jmp	8f
2:	cmp	eax, 13
	jne	3f
	mov	dword ptr [V_LASTCR], 1
	jmp	8f
3:	cmp	eax, 8
	je	5f
	cmp	eax, 127
	je	5f
	cmp	eax, 21
	je	6f
	cmp	eax, 32
	jb	1b
	cmp	ebx, LINE_MAX
	jae	4f
	mov	[V_LINE + rbx], al
	add	ebx, 1
	call	putc
	jmp	1b
4:	mov	al, 7				# full: ring the bell
	call	putc
	jmp	1b
5:	test	ebx, ebx
	jz	1b
	call	9f
	jmp	1b
6:	test	ebx, ebx
	jz	1b
	call	9f
	jmp	6b
8:	mov	byte ptr [V_LINE + rbx], 0
	call	newline
	pop	rbx
	ret
9:	sub	ebx, 1
	say	"\b \b"
	ret

# ---------------------------------------------------------------- memory

# show_memory prints the size by the map and whether the memory at the end of
# each range, and nothing behind the last one, answers.
show_memory:
	push	rbx
	push	rbp
	push	r12
	xor	r12d, r12d			# ranges that do not answer
	lea	rbx, [r15 + I_RANGE]
	mov	ebp, [r15 + I_RANGES]
	mov	qword ptr [V_TOTAL], 0
	mov	qword ptr [V_END], 0
1:	test	ebp, ebp
	jz	3f
	mov	rdi, [rbx]
	mov	rax, [rbx + 8]
	add	[V_TOTAL], rax
	add	rdi, rax
	cmp	rdi, [V_END]
	jbe	2f
	mov	[V_END], rdi
2:	sub	rdi, 8
	call	probe
	xor	eax, 1
	add	r12d, eax
	add	rbx, 16
	sub	ebp, 1
	jmp	1b
3:	say	"memory: "
	call	total_mib
	call	put_dec
	say	" MiB in "
	mov	eax, [r15 + I_RANGES]
	call	put_dec
	say	" range(s), "
	test	r12d, r12d
	jnz	4f
	say	"each answers at its end, "
	jmp	5f
4:	mov	eax, r12d
	call	put_dec
	say	" without memory at the end, "
5:	mov	rdi, [V_END]
	call	answers_beyond
	test	eax, eax
	jnz	6f
	say	"nothing"
	jmp	7f
6:	say	"MEMORY"
7:	say	" beyond 0x"
	mov	rax, [V_END]
	call	put_hex
	call	newline
	pop	r12
	pop	rbp
	pop	rbx
	ret

# total_mib: rax = size by the map in MiB, rounded up over the legacy hole.
total_mib:
	mov	rax, [V_TOTAL]
	add	rax, 0xfffff
	shr	rax, 20
	ret

# probe: eax = 1 if the 8 bytes at the address rdi keep what is written there.
# What was there comes back.
probe:
	call	window
	mov	rcx, [rax]
	mov	r8, rcx
	not	r8
	mov	[rax], r8
	xor	edx, edx
	cmp	r8, [rax]
	jne	1f
	mov	edx, 1
1:	mov	[rax], rcx
	mov	eax, edx
	ret

# answers_beyond: eax = 1 if there is memory at rdi. It does not write where
# reading gives all ones: a device may be there.
answers_beyond:
	call	window
	mov	rcx, [rax]
	cmp	rcx, -1
	jne	probe
	xor	eax, eax
	ret

# walk_start begins a walk over all whole MiB of RAM from FREE up;
# walk gives the next one in rdi, or 0.
walk_start:
	mov	dword ptr [V_RANGE], I_RANGE
	mov	eax, [r15 + I_RANGES]
	mov	[V_LEFT], rax
	xor	eax, eax
	mov	[V_CUR], rax
	mov	[V_STOP], rax
	ret
walk:
	mov	rdi, [V_CUR]
	lea	rax, [rdi + 0x100000]
	cmp	rax, [V_STOP]
	ja	1f
	mov	[V_CUR], rax
	ret
1:	xor	edi, edi
	cmp	dword ptr [V_LEFT], 0
	je	3f
	sub	dword ptr [V_LEFT], 1
	mov	ecx, [V_RANGE]
	add	dword ptr [V_RANGE], 16
	mov	rax, [r15 + rcx]
	mov	rdx, rax
	add	rdx, [r15 + rcx + 8]
	mov	[V_STOP], rdx
	add	rax, 0xfffff
	and	rax, -0x100000
	cmp	rax, FREE
	jae	2f
	mov	eax, FREE
2:	mov	[V_CUR], rax
	jmp	walk
3:	ret

# ---------------------------------------------------------------- processors

# show_cpus starts the other processors and counts those that come up.
show_cpus:
	call	start_cpus
	push	rax
	say	"cpus: "
	mov	rax, [rsp]
	call	put_dec
	say	" came up, "
	mov	eax, [r15 + I_CPUS]
	call	put_dec
	say	" stated\n"
	pop	rax
	ret

# start_cpus: eax = processors that run, this one included. Every other one is
# sent INIT and twice the start-up message; each counts itself (ap).
start_cpus:
	push	rbx
	push	rbp
	lea	rsi, [rip + ap]
	mov	edi, AP_CODE
1:	mov	al, [rsi]
	mov	[rdi], al
	add	rsi, 1
	add	rdi, 1
	lea	rax, [rip + ap_end]
	cmp	rsi, rax
	jb	1b
	mov	dword ptr [AP_COUNT], 0
	mov	ebx, [r15 + I_LAPIC]
	mov	eax, 0xc4500			# INIT, all but self
	call	send_ipi
	mov	ebp, 2
2:	mov	ecx, 1000000
	call	delay
	mov	eax, 0xc4600 + AP_CODE / 4096	# start-up, all but self
	call	send_ipi
	sub	ebp, 1
	jnz	2b
	mov	r8, -1				# until all that are stated are there, or none
3:	mov	eax, [AP_COUNT]			# came for about a second
	cmp	rax, r8
	je	5f
	mov	r8, rax
	call	ticks
	mov	rcx, 3000000000
	add	rcx, rax
5:	mov	eax, [AP_COUNT]
	add	eax, 1
	cmp	eax, [r15 + I_CPUS]
	jae	4f
	pause
	call	ticks
	cmp	rax, rcx
	jb	3b
4:	mov	ecx, 1000000			# and, as far as that shows, any more
	call	delay
	mov	eax, [AP_COUNT]
	add	eax, 1
	pop	rbp
	pop	rbx
	ret

# send_ipi sends the command eax through the local APIC at rbx.
send_ipi:
	mov	dword ptr [rbx + 0x310], 0
	mov	[rbx + 0x300], eax
	mov	ecx, 10000
1:	mov	eax, [rbx + 0x300]
	test	eax, 0x1000
	jz	2f
	sub	ecx, 1
	jnz	1b
2:	ret

# ap is what the other processors run, in real mode at AP_CODE.
	.code16
ap:	cli
	xor	ax, ax
	mov	ds, ax
	lock inc dword ptr ds:[AP_COUNT]
	cmp	byte ptr ds:[AP_SPIN], 0
	jne	2f
1:	hlt
	jmp	1b
2:	pause
	jmp	2b
ap_end:
	.code64

# ---------------------------------------------------------------- time

# ticks: rax = time stamp counter. Changes rdx only.
ticks:
	rdtsc
	shl	rdx, 32
	or	rax, rdx
	ret

# delay waits ecx ticks.
delay:
	call	ticks
	add	rcx, rax
1:	pause
	call	ticks
	cmp	rax, rcx
	jb	1b
	ret

# clock_init asks KVM to keep a clock page, if this is KVM.
clock_init:
	push	rbx
	mov	eax, 0x40000000
	cpuid
	cmp	ebx, 0x4b4d564b			# "KVMK"
	jne	1f
	mov	eax, 0x40000001
	cpuid
	test	al, 8				# KVM_FEATURE_CLOCKSOURCE2
	jz	1f
	mov	ecx, 0x4b564d01
	mov	eax, KVMCLOCK + 1
	xor	edx, edx
	wrmsr
	cmp	dword ptr [KVMCLOCK + 24], 0	# a scale: the page is alive
	je	1f
	mov	dword ptr [V_CLOCK], 1
	call	clock
	mov	[V_BASE], rax
1:	pop	rbx
	ret

# clock: rax = kvmclock in nanoseconds.
clock:
	mov	r8d, [KVMCLOCK]			# odd while it is being changed
	test	r8b, 1
	jnz	clock
	call	ticks
	sub	rax, [KVMCLOCK + 8]
	movsx	ecx, byte ptr [KVMCLOCK + 28]
	test	ecx, ecx
	js	1f
	shl	rax, cl
	jmp	2f
1:	neg	ecx
	shr	rax, cl
2:	mov	ecx, [KVMCLOCK + 24]
	mul	rcx
	shr	rax, 32
	shl	rdx, 32
	or	rax, rdx
	add	rax, [KVMCLOCK + 16]
	cmp	r8d, [KVMCLOCK]
	jne	clock
	ret

# ---------------------------------------------------------------- command line

word_auto:	.asciz	"auto="
word_noirq:	.asciz	"noirq"

# find_word: rax = what follows the word at rsi on the command line, or 0.
find_word:
	mov	edx, [r15 + I_CMDLINE]
	add	rdx, r15
1:	mov	rax, rdx			# at the start of a word
	mov	rdi, rsi
2:	mov	cl, [rdi]
	test	cl, cl
	jz	5f
	cmp	cl, [rax]
	jne	3f
	add	rax, 1
	add	rdi, 1
	jmp	2b
3:	cmp	byte ptr [rdx], 0
	je	4f
	add	rdx, 1
	cmp	byte ptr [rdx - 1], 32
	je	1b
	jmp	3b
4:	xor	eax, eax
5:	ret

# find_auto: rsi = the commands after auto=, or 0: inside quotes if it starts
# with one, else up to the end.
find_auto:
	lea	rsi, [rip + word_auto]
	call	find_word
	mov	rsi, rax
	test	rax, rax
	jz	2f
	cmp	byte ptr [rax], 34
	jne	2f
	add	rsi, 1
1:	add	rax, 1
	cmp	byte ptr [rax], 0
	je	2f
	cmp	byte ptr [rax], 34
	jne	1b
	mov	byte ptr [rax], 0
2:	ret

# ---------------------------------------------------------------- commands

# execute runs the commands in the string at rsi, parted by semicolons.
execute:
	push	rbx
	push	rbp
	push	r12
	mov	rbx, rsi
1:	cmp	byte ptr [rbx], 32
	jne	2f
	add	rbx, 1
	jmp	1b
2:	mov	rbp, rbx			# rbp = end of this command, r12d = another follows
	xor	r12d, r12d
3:	mov	al, [rbp]
	test	al, al
	jz	4f
	add	rbp, 1
	cmp	al, 59
	jne	3b
	sub	rbp, 1
	mov	byte ptr [rbp], 0
	mov	r12d, 1
4:	cmp	byte ptr [rbx], 0
	je	9f
	lea	rdi, [rip + commands]
5:	mov	rsi, rbx
	lea	rdx, [rdi + 4]
6:	mov	al, [rdx]
	mov	cl, [rsi]
	test	al, al
	jz	7f
	add	rdx, 1
	add	rsi, 1
	cmp	al, cl
	je	6b
	jmp	8f
7:	test	cl, cl
	jz	7f
	cmp	cl, 32
	jne	8f
	add	rsi, 1
7:	mov	eax, [rdi]
	add	eax, IMAGE
	call	rax
	jmp	9f
8:	add	rdi, 16
	cmp	dword ptr [rdi], 0
	jne	5b
	say	"unknown command: "
	mov	rsi, rbx
	call	puts
	say	"; type help\n"
9:	lea	rbx, [rbp + 1]
	test	r12d, r12d
	jnz	1b
	pop	r12
	pop	rbp
	pop	rbx
	ret

	.macro	command name
	.long	do_\name - start
1:	.ascii	"\name"
	.org	1b + 12, 0
	.endm
commands:
	command	help
	command	echo
	command	mem
	command	cpus
	command	time
	command	fill
	command	sum
	command	spin
	command	halt
	command	poweroff
	command	reboot
	command	kbdreset
	command	triple
	command	crash
	command	size
	.long	do_serve - start
	.ascii	"vsock-serve\0"
	.long	do_send - start
	.ascii	"vsock-send\0\0"
	.long	0

do_help:
	say	"help           this list\necho TEXT      print TEXT\nmem            count the MiB that answer\ncpus           count the processors again\ntime           uptime by kvmclock, time stamp counter\nfill MIB SEED  set memory from 2 MiB up\nsum MIB        checksum of the same memory\nspin [all]     busy loop for ever, on all processors\nhalt           halt with interrupts off\npoweroff       ACPI S5\nreboot         ACPI reset register\nkbdreset       reset by the keyboard controller\ntriple         triple fault\ncrash          jump to where no memory is\nsize           columns and rows of the virtio console\nvsock-serve PORT       send back what the host sends to a port\nvsock-send PORT TEXT   send to a port of the host, print the answer\nA semicolon parts commands; auto=COMMANDS on the command line runs them first.\n"
	ret

# Called by devices.c: c_puts prints the string at rdi, c_dec the number rdi.
	.globl	c_puts, c_dec, idle
c_puts:	mov	rsi, rdi
	jmp	puts
c_dec:	mov	rax, rdi
	jmp	put_dec

do_serve:
	mov	rdi, rsi
	jmp	vsock_serve
do_send:
	mov	rdi, rsi
	jmp	vsock_send
do_size:
	jmp	console_size

do_echo:
	call	puts
	jmp	newline

do_mem:
	push	rbx
	push	rbp
	call	show_memory
	xor	ebx, ebx
	xor	ebp, ebp
	call	walk_start
1:	call	walk
	test	rdi, rdi
	jz	2f
	add	ebp, 1
	call	probe
	add	ebx, eax
	jmp	1b
2:	say	"mem: "
	mov	eax, ebx
	call	put_dec
	say	" of "
	mov	eax, ebp
	call	put_dec
	say	" MiB above 2 MiB answer\n"
	pop	rbp
	pop	rbx
	ret

do_cpus:
	mov	dword ptr [AP_SPIN], 0
	jmp	show_cpus

do_time:
	push	rbx
	cmp	dword ptr [V_CLOCK], 0
	je	1f
	call	clock
	mov	rbx, rax
	say	"time: uptime_ns="
	mov	rax, rbx
	sub	rax, [V_BASE]
	call	put_dec
	say	" kvmclock_ns="
	mov	rax, rbx
	call	put_dec
	jmp	2f
1:	say	"time: no kvmclock"
2:	say	" tsc="
	call	ticks
	call	put_dec
	call	newline
	pop	rbx
	ret

# number: rax = the decimal number at rsi, which moves behind it and one space.
number:
	xor	eax, eax
1:	movzx	ecx, byte ptr [rsi]
	cmp	ecx, 32
	je	2f
	sub	ecx, 48
	cmp	ecx, 9
	ja	3f
	imul	rax, rax, 10
	add	rax, rcx
	add	rsi, 1
	jmp	1b
2:	add	rsi, 1
3:	ret

# do_fill sets each 8 bytes to (address + seed) times an odd constant.
do_fill:
	push	rbx
	push	rbp
	push	r12
	call	number
	mov	rbx, rax
	call	number
	mov	rbp, rax
	xor	r12d, r12d
	mov	r9, 0x9e3779b97f4a7c15
	call	walk_start
1:	cmp	r12, rbx
	jae	3f
	call	walk
	test	rdi, rdi
	jz	3f
	call	window
	lea	rdx, [rax + 0x100000]
	add	rdi, rbp
2:	mov	rcx, rdi
	imul	rcx, r9
	mov	[rax], rcx
	add	rdi, 8
	add	rax, 8
	cmp	rax, rdx
	jne	2b
	add	r12, 1
	jmp	1b
3:	say	"fill: "
	mov	rax, r12
	call	put_dec
	say	" MiB\n"
	pop	r12
	pop	rbp
	pop	rbx
	ret

# do_sum adds and multiplies over the same memory.
do_sum:
	push	rbx
	push	rbp
	push	r12
	call	number
	mov	rbx, rax
	xor	ebp, ebp
	xor	r12d, r12d
	mov	r9, 0x9e3779b97f4a7c15
	call	walk_start
1:	cmp	r12, rbx
	jae	3f
	call	walk
	test	rdi, rdi
	jz	3f
	call	window
	lea	rdx, [rax + 0x100000]
2:	add	rbp, [rax]
	imul	rbp, r9
	add	rax, 8
	cmp	rax, rdx
	jne	2b
	add	r12, 1
	jmp	1b
3:	say	"sum: "
	mov	rax, r12
	call	put_dec
	say	" MiB 0x"
	mov	rax, rbp
	call	put_hex
	call	newline
	pop	r12
	pop	rbp
	pop	rbx
	ret

do_spin:
	cmp	byte ptr [rsi], 97		# all
	jne	1f
	mov	dword ptr [AP_SPIN], 1
	call	show_cpus
1:	say	"spinning\n"
2:	pause
	jmp	2b

# flush waits until the last byte has left.
flush:
	mov	ah, 0x40
	jmp	wait_line

do_halt:
	say	"halted\n"
	call	flush
stop:	cli
	hlt
	jmp	stop

power_button:
	say	"\npower button\n"
do_poweroff:
	say	"powering off\n"
	call	flush
	movzx	edx, word ptr [r15 + I_SLEEP]
	mov	al, [r15 + I_SLEEPVAL]
	out	dx, al
	jmp	stop

do_reboot:
	say	"rebooting\n"
	call	flush
	movzx	edx, word ptr [r15 + I_RESET]
	mov	al, [r15 + I_RESETVAL]
	out	dx, al
	jmp	stop

do_kbdreset:
	say	"keyboard reset\n"
	call	flush
	mov	al, 0xfe
	out	0x64, al
	jmp	stop

do_triple:
	say	"triple fault\n"
	call	flush
triple:	push	0
	push	0
	lidt	[rsp]
	mov	rax, [WINDOW + 0x200000]	# page fault, nothing to handle it

# do_crash runs what cannot be fetched: KVM gives up with an internal error,
# and a machine that does not gets a triple fault.
do_crash:
	say	"crashing\n"
	call	flush
	push	0
	push	0
	lidt	[rsp]
	mov	edi, NOWHERE
	call	window
	jmp	rax

	.section .note.GNU-stack,"",@progbits
