	.file	"devices.c"
	.text
	.type	copy, @function
copy:
	cmpl	$7, %edx
	jbe	.L6
	movl	$8, %ecx
.L3:
	leal	-8(%rcx), %eax
	leaq	(%rdi,%rax), %r8
	movq	(%rsi,%rax), %rax
	movq	%rax, (%r8)
	movl	%ecx, %eax
	addl	$8, %ecx
	cmpl	%ecx, %edx
	jnb	.L3
.L2:
	cmpl	%edx, %eax
	jnb	.L1
	movl	%eax, %eax
.L5:
	leaq	(%rdi,%rax), %rcx
	movzbl	(%rsi,%rax), %r8d
	movb	%r8b, (%rcx)
	addq	$1, %rax
	cmpl	%edx, %eax
	jb	.L5
.L1:
	ret
.L6:
	movl	$0, %eax
	jmp	.L2
	.size	copy, .-copy
	.type	begin, @function
begin:
	movl	%edi, 1114512
	movl	$0, 1114496
	movl	$0, 1114508
	movl	$0, 1114500
	movl	$0, 1114544
	movl	$0, 1114540
	movl	$0, 1114536
	movl	$0, 1114532
	movl	$0, 1114528
	movl	$0, 1114524
	movq	$0, 1114552
	ret
	.size	begin, .-begin
	.type	number, @function
number:
	movq	(%rdi), %r8
	movzbl	(%r8), %edx
	leal	-48(%rdx), %eax
	cmpb	$9, %al
	ja	.L14
	leaq	1(%r8), %rcx
	movl	$0, %eax
.L12:
	leaq	(%rax,%rax,4), %rax
	movsbl	%dl, %edx
	subl	$48, %edx
	movslq	%edx, %rdx
	leaq	(%rdx,%rax,2), %rax
	movq	%rcx, %r8
	movq	%rcx, (%rdi)
	movzbl	(%rcx), %edx
	addq	$1, %rcx
	leal	-48(%rdx), %esi
	cmpb	$9, %sil
	jbe	.L12
.L11:
	cmpb	$32, %dl
	je	.L16
.L13:
	ret
.L14:
	movl	$0, %eax
	jmp	.L11
.L16:
	addq	$1, %r8
	movq	%r8, (%rdi)
	jmp	.L13
	.size	number, .-number
	.type	received, @function
received:
	movq	%rdi, %rcx
	movq	%rsi, %rax
	movq	%rdx, %rdi
	movq	16(%rcx), %rdx
	movzwl	2(%rdx), %edx
	cmpw	40(%rcx), %dx
	je	.L19
#APP
# 80 "devices/devices.c" 1
	lock orl $0, (%rsp)
# 0 "" 2
#NO_APP
	movq	16(%rcx), %rsi
	movzwl	40(%rcx), %edx
	andl	$15, %edx
	movl	4(%rsi,%rdx,8), %edx
	andl	$15, %edx
	movl	%edx, (%rax)
	movq	16(%rcx), %rsi
	movzwl	40(%rcx), %edx
	andl	$15, %edx
	movl	8(%rsi,%rdx,8), %edx
	movl	$4096, %esi
	cmpl	%esi, %edx
	cmova	%esi, %edx
	movl	%edx, (%rdi)
	addw	$1, 40(%rcx)
	movl	(%rax), %eax
	sall	$12, %eax
	movl	%eax, %eax
	addq	32(%rcx), %rax
	ret
.L19:
	movl	$0, %eax
	ret
	.size	received, .-received
	.type	offer, @function
offer:
	movq	%rdi, %rax
	movl	%esi, %edi
	movzwl	%si, %esi
	salq	$4, %rsi
	movq	%rsi, %r9
	addq	(%rax), %r9
	movq	%rdi, %r8
	salq	$12, %r8
	andl	$268431360, %r8d
	addq	32(%rax), %r8
	movq	%r8, (%r9)
	movq	%rsi, %r8
	addq	(%rax), %r8
	movl	%edx, 8(%r8)
	addq	(%rax), %rsi
	movw	%cx, 12(%rsi)
	movq	8(%rax), %rcx
	movzwl	2(%rcx), %edx
	andl	$15, %edx
	movw	%di, 4(%rcx,%rdx,2)
#APP
# 80 "devices/devices.c" 1
	lock orl $0, (%rsp)
# 0 "" 2
#NO_APP
	movq	8(%rax), %rdx
	movzwl	2(%rdx), %eax
	addl	$1, %eax
	movw	%ax, 2(%rdx)
#APP
# 80 "devices/devices.c" 1
	lock orl $0, (%rsp)
# 0 "" 2
#NO_APP
	ret
	.size	offer, .-offer
	.type	send, @function
send:
	pushq	%rbx
	movq	%rdi, %rbx
	movl	%esi, %edx
	movl	$0, %ecx
	movl	$0, %esi
	call	offer
	movq	24(%rbx), %rax
	movzwl	42(%rbx), %edx
	movw	%dx, (%rax)
	movq	16(%rbx), %rax
	movzwl	2(%rax), %edx
	cmpw	40(%rbx), %dx
	jne	.L22
.L23:
#APP
# 221 "devices/devices.c" 1
	pause
# 0 "" 2
#NO_APP
	movq	16(%rbx), %rax
	movzwl	2(%rax), %edx
	cmpw	40(%rbx), %dx
	je	.L23
.L22:
	movzwl	2(%rax), %eax
	movw	%ax, 40(%rbx)
#APP
# 80 "devices/devices.c" 1
	lock orl $0, (%rsp)
# 0 "" 2
#NO_APP
	popq	%rbx
	ret
	.size	send, .-send
	.type	packet, @function
packet:
	pushq	%rbx
	subq	$48, %rsp
	movl	%r8d, %ebx
	movq	1114488, %rax
	movq	%rax, 4(%rsp)
	movq	$2, 12(%rsp)
	movl	%edx, 20(%rsp)
	movl	%ecx, 24(%rsp)
	movl	%r8d, 28(%rsp)
	movw	$1, 32(%rsp)
	movw	%di, 34(%rsp)
	movl	%esi, 36(%rsp)
	movl	$262144, 40(%rsp)
	movl	1114536, %eax
	movl	%eax, 44(%rsp)
	movl	$44, %edx
	leaq	4(%rsp), %rsi
	movq	1114408, %rdi
	call	copy
	leal	44(%rbx), %esi
	movl	$1114376, %edi
	call	send
	addq	$48, %rsp
	popq	%rbx
	ret
	.size	packet, .-packet
	.type	again, @function
again:
	pushq	%rbx
	movq	%rdi, %rbx
	movzwl	%si, %esi
	movl	$2, %ecx
	movl	$4096, %edx
	call	offer
	movq	24(%rbx), %rax
	movzwl	42(%rbx), %edx
	movw	%dx, (%rax)
	popq	%rbx
	ret
	.size	again, .-again
	.type	setup, @function
setup:
	pushq	%r14
	pushq	%r13
	pushq	%r12
	pushq	%rbp
	pushq	%rbx
	movq	%rdi, %rbx
	movl	%esi, %edi
	movl	%edx, %esi
	movl	%ecx, %ebp
	movzwl	%di, %r12d
	movq	(%rbx), %r8
	movl	%edx, %ecx
	addq	$288, %rcx
	salq	$12, %rcx
	leaq	8(%rcx), %rax
	leaq	4096(%rcx), %rdx
	cmpq	%rax, %rdx
	sbbq	%rax, %rax
	andq	$-511, %rax
	leaq	4096(%rcx,%rax,8), %rdx
	movq	%rcx, %rax
.L31:
	movq	$0, (%rax)
	addq	$8, %rax
	cmpq	%rdx, %rax
	jne	.L31
	movslq	%r12d, %r10
	leaq	(%r10,%r10), %rax
	leaq	(%rax,%r10), %rdx
	salq	$4, %rdx
	movq	%rcx, 32(%rbx,%rdx)
	leaq	(%rax,%r10), %rdx
	salq	$4, %rdx
	leaq	1024(%rcx), %r9
	movq	%r9, 40(%rbx,%rdx)
	movzwl	%di, %edx
	leaq	(%rdx,%rdx,2), %rdx
	salq	$4, %rdx
	leaq	(%rbx,%rdx), %r9
	leaq	2048(%rcx), %r11
	movq	%r11, 48(%r9)
	leaq	(%rax,%r10), %r11
	salq	$4, %r11
	addl	$19, %esi
	sall	$16, %esi
	movl	%esi, %esi
	movq	%rsi, 64(%rbx,%r11)
	movw	$0, 72(%rbx,%r11)
	movw	%di, 74(%rbx,%r11)
	movw	%di, 22(%r8)
	movzwl	24(%r8), %esi
	movl	$0, %eax
	cmpw	$15, %si
	ja	.L41
.L30:
	popq	%rbx
	popq	%rbp
	popq	%r12
	popq	%r13
	popq	%r14
	ret
.L41:
	movw	$16, 24(%r8)
	cmpl	$1, %ebp
	sbbl	%eax, %eax
	movzwl	%ax, %eax
	movw	%ax, 26(%r8)
	movl	%ecx, 32(%r8)
	movl	$0, 36(%r8)
	leal	1024(%rcx), %eax
	movl	%eax, 40(%r8)
	movl	$0, 44(%r8)
	addl	$2048, %ecx
	movl	%ecx, 48(%r8)
	movl	$0, 52(%r8)
	movzwl	30(%r8), %eax
	movzwl	%ax, %eax
	imull	24(%rbx), %eax
	addq	16(%rbx), %rax
	movq	%rax, 56(%r9)
	movw	$1, 28(%r8)
	testl	%ebp, %ebp
	je	.L34
	leaq	32(%rbx,%rdx), %r14
	movl	$0, %r13d
.L35:
	movl	$2, %ecx
	movl	$4096, %edx
	movl	%r13d, %esi
	movq	%r14, %rdi
	call	offer
	addl	$1, %r13d
	cmpl	$16, %r13d
	jne	.L35
.L34:
	movslq	%r12d, %r12
	leaq	(%r12,%r12,2), %rax
	salq	$4, %rax
	movq	40(%rbx,%rax), %rax
	testl	%ebp, %ebp
	sete	%dl
	movzbl	%dl, %edx
	movw	%dx, (%rax)
	movl	$1, %eax
	jmp	.L30
	.size	setup, .-setup
	.type	probe, @function
probe:
	movl	16(%rsi), %r10d
	andl	$-16, %r10d
	movq	$0, 16(%rdi)
	movq	$0, 8(%rdi)
	movq	$0, (%rdi)
	movzbl	52(%rsi), %eax
	testb	%al, %al
	je	.L53
	pushq	%rbx
	movq	%rdi, %r9
	movq	%rsi, %r8
	movl	%edx, %r11d
	movl	%ecx, %ebx
	movl	$0, %edx
	movl	$0, %ecx
	jmp	.L48
.L46:
	movq	%rdi, 16(%r9)
	movl	16(%rax), %esi
	movl	%esi, 24(%r9)
.L45:
	movzbl	1(%rax), %eax
	addl	$1, %edx
	testb	%al, %al
	je	.L59
	cmpb	$47, %dl
	ja	.L59
.L48:
	movzbl	%al, %eax
	addq	%r8, %rax
	movl	8(%rax), %edi
	movzbl	(%rax), %esi
	cmpb	$17, %sil
	cmove	%rax, %rcx
	movzbl	(%rax), %esi
	cmpb	$9, %sil
	jne	.L45
	movzbl	4(%rax), %esi
	testb	%sil, %sil
	jne	.L45
	movl	%edi, %edi
	addq	%r10, %rdi
	movzbl	3(%rax), %esi
	cmpb	$2, %sil
	je	.L46
	cmpb	$4, %sil
	je	.L47
	cmpb	$1, %sil
	jne	.L45
	movq	%rdi, (%r9)
	jmp	.L45
.L47:
	movq	%rdi, 8(%r9)
	jmp	.L45
.L59:
	cmpq	$0, (%r9)
	je	.L55
	cmpq	$0, 16(%r9)
	je	.L56
	cmpq	$0, 8(%r9)
	je	.L57
	testq	%rcx, %rcx
	je	.L57
	movl	4(%rcx), %edx
	movl	$0, %eax
	testb	$7, %dl
	jne	.L42
	movzwl	4(%r8), %eax
	orl	$6, %eax
	movw	%ax, 4(%r8)
	movl	4(%rcx), %eax
	movl	%eax, %eax
	addq	%r10, %rax
	sall	$12, %ebx
	orl	$-18874368, %ebx
	movl	%ebx, (%rax)
	movl	$0, 4(%rax)
	movl	$48, 8(%rax)
	movl	$0, 12(%rax)
	movzwl	2(%rcx), %eax
	andw	$16383, %ax
	orw	$-32768, %ax
	movw	%ax, 2(%rcx)
	movq	(%r9), %rsi
	leaq	20(%rsi), %rcx
	movb	$0, 20(%rsi)
	movl	$1000000, %eax
.L50:
	movzbl	(%rcx), %edx
	testb	%dl, %dl
	je	.L51
	subl	$1, %eax
	jne	.L50
.L51:
	movb	$1, 20(%rsi)
	movb	$3, 20(%rsi)
	movl	$0, (%rsi)
	movl	4(%rsi), %eax
	andl	%eax, %r11d
	movl	$0, 8(%rsi)
	movl	%r11d, 12(%rsi)
	movl	$1, 8(%rsi)
	movl	$1, 12(%rsi)
	movb	$11, 20(%rsi)
	movw	$-1, 16(%rsi)
	movzbl	20(%rsi), %eax
	shrb	$3, %al
	andl	$1, %eax
	jmp	.L42
.L53:
	movl	$0, %eax
	ret
.L55:
	movl	$0, %eax
	jmp	.L42
.L56:
	movl	$0, %eax
	jmp	.L42
.L57:
	movl	$0, %eax
.L42:
	popq	%rbx
	ret
	.size	probe, .-probe
	.globl	devices_init
	.type	devices_init, @function
devices_init:
	pushq	%r13
	pushq	%r12
	pushq	%rbp
	pushq	%rbx
	movq	%rdi, %rbx
	movl	%esi, %r12d
	movl	$1114112, %eax
.L66:
	movq	$0, (%rax)
	addq	$8, %rax
	cmpq	$1114560, %rax
	jne	.L66
	movl	$1024, 1114520
	testq	%rbx, %rbx
	je	.L65
	leaq	1048576(%rbx), %rbp
	movl	$1114112, %r13d
	jmp	.L71
.L76:
	cmpl	$0, 0(%r13)
	je	.L75
.L70:
	addq	$32768, %rbx
	cmpq	%rbx, %rbp
	je	.L65
.L71:
	movl	(%rbx), %eax
	cmpl	$272833268, %eax
	je	.L76
	cmpl	$273881844, %eax
	jne	.L70
	cmpl	$0, 4(%r13)
	jne	.L70
	movl	%r12d, %ecx
	movl	$0, %edx
	movq	%rbx, %rsi
	movl	$1114296, %edi
	call	probe
	testl	%eax, %eax
	je	.L70
	movl	$1, %ecx
	movl	$2, %edx
	movl	$0, %esi
	movl	$1114296, %edi
	call	setup
	testl	%eax, %eax
	je	.L70
	movl	$0, %ecx
	movl	$3, %edx
	movl	$1, %esi
	movl	$1114296, %edi
	call	setup
	testl	%eax, %eax
	je	.L70
	movl	$1, %ecx
	movl	$4, %edx
	movl	$2, %esi
	movl	$1114296, %edi
	call	setup
	testl	%eax, %eax
	je	.L70
	movq	1114296, %rax
	movb	$15, 20(%rax)
	movq	1114352, %rax
	movzwl	1114370, %edx
	movw	%dx, (%rax)
	movq	1114304, %rax
	movl	(%rax), %edx
	movl	4(%rax), %eax
	salq	$32, %rax
	movl	%edx, %edx
	orq	%rdx, %rax
	movq	%rax, 1114488
	movl	$1, 1114116
	jmp	.L70
.L75:
	movl	%r12d, %ecx
	movl	$1, %edx
	movq	%rbx, %rsi
	movl	$1114120, %edi
	call	probe
	testl	%eax, %eax
	je	.L70
	movl	$1, %ecx
	movl	$0, %edx
	movl	$0, %esi
	movl	$1114120, %edi
	call	setup
	testl	%eax, %eax
	je	.L70
	movl	$0, %ecx
	movl	$1, %edx
	movl	$1, %esi
	movl	$1114120, %edi
	call	setup
	testl	%eax, %eax
	je	.L70
	movq	1114120, %rax
	movb	$15, 20(%rax)
	movq	1114176, %rax
	movzwl	1114194, %edx
	movw	%dx, (%rax)
	movl	$1, 1114112
	jmp	.L70
.L65:
	popq	%rbx
	popq	%rbp
	popq	%r12
	popq	%r13
	ret
	.size	devices_init, .-devices_init
	.globl	console_put
	.type	console_put, @function
console_put:
	movl	1114112, %eax
	testl	%eax, %eax
	jne	.L79
.L77:
	ret
.L79:
	movq	1114232, %rax
	movb	%dil, (%rax)
	movl	$1, %esi
	movl	$1114200, %edi
	call	send
	movl	$1, %eax
	jmp	.L77
	.size	console_put, .-console_put
	.globl	console_get
	.type	console_get, @function
console_get:
	cmpl	$0, 1114112
	je	.L85
	cmpq	$0, 1114472
	je	.L82
	cmpl	$0, 1114480
	je	.L88
.L83:
	movq	1114472, %rax
.L84:
	movl	1114480, %edx
	testl	%edx, %edx
	je	.L87
	subl	$1, %edx
	movl	%edx, 1114480
	leaq	1(%rax), %rdx
	movq	%rdx, 1114472
	movzbl	(%rax), %eax
	ret
.L88:
	movq	$0, 1114472
	movl	1114484, %esi
	movl	$1114152, %edi
	call	again
	cmpq	$0, 1114472
	jne	.L83
.L82:
	movl	$1114480, %edx
	movl	$1114484, %esi
	movl	$1114152, %edi
	call	received
	movq	%rax, 1114472
	testq	%rax, %rax
	jne	.L84
	movl	$-1, %eax
	ret
.L85:
	movl	$-2, %eax
	ret
.L87:
	movl	$-1, %eax
	ret
	.size	console_get, .-console_get
	.globl	devices_poll
	.type	devices_poll, @function
devices_poll:
	cmpl	$0, 1114116
	je	.L117
	pushq	%r14
	pushq	%r13
	pushq	%r12
	pushq	%rbp
	pushq	%rbx
	subq	$72, %rsp
	jmp	.L91
.L121:
	movl	1114516, %ecx
	cmpl	%ecx, 36(%rsp)
	sete	%dl
	movzbl	%dl, %edx
	jmp	.L93
.L122:
	cmpl	$0, 1114496
	je	.L95
	movl	1114512, %eax
	cmpl	%eax, 40(%rsp)
	je	.L120
	testl	%edx, %edx
	je	.L109
	movl	56(%rsp), %eax
	movl	%eax, 1114528
	movl	60(%rsp), %eax
	movl	%eax, 1114532
	jmp	.L92
.L120:
	movl	36(%rsp), %ecx
	movl	%ecx, 1114516
	movl	$0, 1114496
	movl	$1, 1114500
	movl	$0, %r8d
	movl	%eax, %edx
	movl	$0, %esi
	movl	$2, %edi
	call	packet
	movl	56(%rsp), %eax
	movl	%eax, 1114528
	movl	60(%rsp), %eax
	movl	%eax, 1114532
	jmp	.L92
.L123:
	cmpw	$3, %cx
	jne	.L109
.L92:
	movl	68(%rsp), %esi
	movl	$1114328, %edi
	call	again
.L91:
	leaq	64(%rsp), %rdx
	leaq	68(%rsp), %rsi
	movl	$1114328, %edi
	call	received
	movq	%rax, %rbx
	testq	%rax, %rax
	je	.L107
	movl	$44, %edx
	movq	%rbx, %rsi
	leaq	20(%rsp), %rdi
	call	copy
	movl	64(%rsp), %eax
	cmpl	$43, %eax
	jbe	.L92
	movl	1114500, %edx
	testl	%edx, %edx
	je	.L93
	movl	$0, %edx
	movl	1114512, %ecx
	cmpl	%ecx, 40(%rsp)
	je	.L121
.L93:
	cmpw	$1, 48(%rsp)
	jne	.L92
	movq	1114488, %rcx
	cmpq	%rcx, 28(%rsp)
	jne	.L92
	movl	44(%rsp), %esi
	movzwl	50(%rsp), %ecx
	cmpw	$1, %cx
	je	.L122
	testl	%edx, %edx
	je	.L123
	movl	56(%rsp), %edx
	movl	%edx, 1114528
	movl	60(%rsp), %edx
	movl	%edx, 1114532
	cmpw	$7, %cx
	ja	.L92
	movzwl	%cx, %ecx
	jmp	*.L99(,%rcx,8)
	.section	.rodata
	.align 8
	.align 4
.L99:
	.quad	.L92
	.quad	.L92
	.quad	.L103
	.quad	.L102
	.quad	.L101
	.quad	.L100
	.quad	.L92
	.quad	.L98
	.text
.L103:
	movl	$0, 1114504
	jmp	.L92
.L102:
	movl	$0, 1114500
	movl	$1, 1114508
	jmp	.L92
.L101:
	testb	$2, 52(%rsp)
	je	.L92
	movl	$1, 1114508
	jmp	.L92
.L100:
	movl	1114544, %r13d
	movl	%eax, %eax
	subq	$44, %rax
	movl	%esi, %esi
	cmpq	%rsi, %rax
	cmova	%rsi, %rax
	movl	$262144, %edx
	subl	%r13d, %edx
	cmpl	%eax, %edx
	movl	%eax, %r12d
	cmovbe	%edx, %r12d
	movl	%r12d, 4(%rsp)
	addl	1114540, %r13d
	testl	%r12d, %r12d
	je	.L104
	addq	$44, %rbx
	movl	$262144, %r14d
.L105:
	movl	%r13d, %edi
	andl	$262143, %edi
	movl	%r14d, %ebp
	subl	%edi, %ebp
	cmpl	%r12d, %ebp
	cmova	%r12d, %ebp
	addl	$1703936, %edi
	movl	%edi, %edi
	movl	%ebp, %edx
	movq	%rbx, %rsi
	call	copy
	addl	%ebp, %r13d
	movl	%ebp, %eax
	addq	%rax, %rbx
	subl	%ebp, %r12d
	jne	.L105
.L104:
	movl	4(%rsp), %eax
	addl	%eax, 1114544
	jmp	.L92
.L98:
	movl	$0, %r8d
	movl	1114516, %ecx
	movl	1114512, %edx
	movl	$0, %esi
	movl	$6, %edi
	call	packet
	jmp	.L92
.L108:
	movl	68(%rsp), %esi
	movl	$1114424, %edi
	call	again
.L107:
	leaq	64(%rsp), %rdx
	leaq	68(%rsp), %rsi
	movl	$1114424, %edi
	call	received
	testq	%rax, %rax
	jne	.L108
	addq	$72, %rsp
	popq	%rbx
	popq	%rbp
	popq	%r12
	popq	%r13
	popq	%r14
	ret
.L124:
	movl	56(%rsp), %eax
	movl	%eax, 1114528
	movl	60(%rsp), %eax
	movl	%eax, 1114532
	jmp	.L92
.L95:
	testl	%edx, %edx
	jne	.L124
.L109:
	movl	$0, %r8d
	movl	36(%rsp), %ecx
	movl	40(%rsp), %edx
	movl	$0, %esi
	movl	$3, %edi
	call	packet
	jmp	.L92
.L117:
	ret
	.size	devices_poll, .-devices_poll
	.type	finish, @function
finish:
	pushq	%rbx
	cmpl	$0, 1114500
	jne	.L132
.L126:
	movl	$1114112, %ebx
.L128:
	cmpl	$0, 388(%rbx)
	je	.L133
	call	devices_poll
	cmpl	$0, 388(%rbx)
	je	.L128
	call	idle
	jmp	.L128
.L132:
	movl	$0, %r8d
	movl	1114516, %ecx
	movl	1114512, %edx
	movl	$3, %esi
	movl	$4, %edi
	call	packet
	jmp	.L126
.L133:
	popq	%rbx
	ret
	.size	finish, .-finish
	.section	.rodata.str1.1,"aMS",@progbits,1
.LC0:
	.string	"error: no socket device\n"
.LC1:
	.string	"listening\n"
.LC2:
	.string	"echoed "
.LC3:
	.string	"\n"
	.text
	.globl	vsock_serve
	.type	vsock_serve, @function
vsock_serve:
	pushq	%r14
	pushq	%r13
	pushq	%r12
	pushq	%rbp
	pushq	%rbx
	subq	$32, %rsp
	movq	%rdi, 24(%rsp)
	cmpl	$0, 1114116
	je	.L151
.L135:
	leaq	24(%rsp), %rdi
	call	number
	movl	%eax, %edi
	call	begin
	movl	$1, 1114496
	movl	$.LC1, %edi
	call	c_puts
	movl	$1114112, %r14d
	jmp	.L137
.L151:
	movl	$.LC0, %edi
	call	c_puts
	cmpl	$0, 1114116
	jne	.L135
.L134:
	addq	$32, %rsp
	popq	%rbx
	popq	%rbp
	popq	%r12
	popq	%r13
	popq	%r14
	ret
.L145:
	call	finish
	movl	$.LC2, %edi
	call	c_puts
	movq	1114552, %rdi
	call	c_dec
	movl	$.LC3, %edi
	call	c_puts
	jmp	.L134
.L147:
	movl	$4052, 12(%rsp)
.L138:
	cmpl	$0, 388(%r14)
	je	.L139
	movl	428(%r14), %r13d
	movq	16(%rsp), %r12
	movl	12(%rsp), %ebp
.L140:
	movl	%r13d, %esi
	andl	$262143, %esi
	movl	$262144, %ebx
	subl	%esi, %ebx
	cmpl	%ebp, %ebx
	cmova	%ebp, %ebx
	addl	$1703936, %esi
	movl	%esi, %esi
	movl	%ebx, %edx
	movq	%r12, %rdi
	call	copy
	addl	%ebx, %r13d
	movl	%ebx, %eax
	addq	%rax, %r12
	subl	%ebx, %ebp
	jne	.L140
	movl	12(%rsp), %r8d
	movl	%r8d, %eax
	addl	428(%r14), %eax
	andl	$262143, %eax
	movl	%eax, 428(%r14)
	subl	%r8d, 432(%r14)
	addl	%r8d, 424(%r14)
	addl	%r8d, 412(%r14)
	movl	%r8d, %eax
	addq	%rax, 440(%r14)
	movl	404(%r14), %ecx
	movl	400(%r14), %edx
	movl	$0, %esi
	movl	$5, %edi
	call	packet
.L141:
	movl	432(%r14), %edx
	movl	420(%r14), %eax
	addl	416(%r14), %eax
	subl	412(%r14), %eax
	cmpl	%edx, %eax
	cmova	%edx, %eax
	movl	%eax, 12(%rsp)
	cmpl	$4052, %eax
	ja	.L147
	testl	%eax, %eax
	jne	.L138
.L139:
	cmpl	$0, 396(%r14)
	je	.L142
	testl	%edx, %edx
	je	.L137
	cmpl	$0, 388(%r14)
	je	.L137
.L142:
	call	idle
.L137:
	cmpl	$0, 396(%r14)
	je	.L144
	cmpl	$0, 432(%r14)
	je	.L145
	cmpl	$0, 388(%r14)
	je	.L145
.L144:
	call	devices_poll
	movq	296(%r14), %rax
	addq	$44, %rax
	movq	%rax, 16(%rsp)
	jmp	.L141
	.size	vsock_serve, .-vsock_serve
	.section	.rodata.str1.1
.LC4:
	.string	"error: connection refused\n"
.LC5:
	.string	"answered "
	.text
	.globl	vsock_send
	.type	vsock_send, @function
vsock_send:
	pushq	%rbx
	subq	$16, %rsp
	movq	%rdi, 8(%rsp)
	cmpl	$0, 1114116
	je	.L176
.L153:
	movl	1114520, %edi
	leal	1(%rdi), %eax
	movl	%eax, 1114520
	call	begin
	leaq	8(%rsp), %rdi
	call	number
	movl	%eax, %ecx
	movl	%eax, 1114516
	movl	$1, 1114504
	movl	$1, 1114500
	movl	$0, %r8d
	movl	1114512, %edx
	movl	$0, %esi
	movl	$1, %edi
	call	packet
	movl	1114504, %eax
	movl	$1114112, %ebx
	testl	%eax, %eax
	jne	.L155
.L156:
	movq	8(%rsp), %rsi
	movzbl	(%rsi), %edx
	movl	$1, %eax
	movl	$0, %r8d
	testb	%dl, %dl
	je	.L162
.L161:
	movq	1114408, %rcx
	movb	%dl, 43(%rcx,%rax)
	movl	%eax, %r8d
	movzbl	(%rsi,%rax), %edx
	addq	$1, %rax
	testb	%dl, %dl
	je	.L162
	cmpl	$254, %r8d
	jbe	.L161
.L162:
	movl	1114516, %ecx
	movl	1114512, %edx
	movl	$0, %esi
	movl	$5, %edi
	call	packet
	movl	$0, %r8d
	movl	1114516, %ecx
	movl	1114512, %edx
	movl	$2, %esi
	movl	$4, %edi
	call	packet
	movl	$1114112, %ebx
.L165:
	cmpl	$0, 396(%rbx)
	jne	.L177
	call	devices_poll
	cmpl	$0, 396(%rbx)
	jne	.L165
	call	idle
	jmp	.L165
.L176:
	movl	$.LC0, %edi
	call	c_puts
	cmpl	$0, 1114116
	jne	.L153
.L152:
	addq	$16, %rsp
	popq	%rbx
	ret
.L179:
	call	idle
	movl	392(%rbx), %eax
	testl	%eax, %eax
	je	.L156
.L155:
	cmpl	$0, 396(%rbx)
	jne	.L178
	call	devices_poll
	cmpl	$0, 392(%rbx)
	je	.L156
	cmpl	$0, 396(%rbx)
	je	.L179
	movl	392(%rbx), %eax
	jmp	.L155
.L178:
	testl	%eax, %eax
	je	.L156
	movl	$.LC4, %edi
	call	c_puts
	jmp	.L152
.L177:
	call	finish
	movl	1114544, %edx
	movl	%edx, %eax
	addq	$1703936, %rax
	cmpl	$255, %edx
	movl	$1704191, %edx
	cmovnb	%rdx, %rax
	movb	$0, (%rax)
	movl	$.LC5, %edi
	call	c_puts
	movl	$1703936, %edi
	call	c_puts
	movl	$.LC3, %edi
	call	c_puts
	jmp	.L152
	.size	vsock_send, .-vsock_send
	.section	.rodata.str1.1
.LC6:
	.string	" "
	.text
	.globl	console_size
	.type	console_size, @function
console_size:
	pushq	%rbx
	movq	1114128, %rbx
	movl	$0, %edi
	cmpl	$0, 1114112
	jne	.L186
.L181:
	call	c_dec
	movl	$.LC6, %edi
	call	c_puts
	movl	$0, %edi
	cmpl	$0, 1114112
	jne	.L187
.L182:
	call	c_dec
	movl	$.LC3, %edi
	call	c_puts
	popq	%rbx
	ret
.L186:
	movzwl	(%rbx), %edi
	movzwl	%di, %edi
	jmp	.L181
.L187:
	movzwl	2(%rbx), %edi
	movzwl	%di, %edi
	jmp	.L182
	.size	console_size, .-console_size
	.section	.note.GNU-stack,"",@progbits
