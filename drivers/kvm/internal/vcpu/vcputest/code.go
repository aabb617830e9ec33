// Package vcputest has the tiny guests that tests and benchmarks of virtual processors run: 64-bit machine code that can
// be loaded anywhere and is entered at its first byte with flat segments.
package vcputest

// Guests.
var (
	// Spin: jmp $
	Spin = []byte{0xeb, 0xfe}

	// HaltDeaf: cli; 1: hlt; jmp 1b. Only a signal ends its KVM_RUN.
	HaltDeaf = []byte{0xfa, 0xf4, 0xeb, 0xfd}

	// PortLoop: mov edx, 0x510; mov al, 0x55; 1: out dx, al; jmp 1b
	PortLoop = []byte{0xba, 0x10, 0x05, 0, 0, 0xb0, 0x55, 0xee, 0xeb, 0xfd}

	// MemLoop: mov ebx, 0xd0000000; 1: mov [rbx], eax; jmp 1b
	MemLoop = []byte{0xbb, 0, 0, 0, 0xd0, 0x89, 0x03, 0xeb, 0xfc}

	// MemRead: mov ebx, 0xd0000000; mov rax, [rbx]; mov edx, 0x510; out dx, eax; cli; hlt
	MemRead = []byte{0xbb, 0, 0, 0, 0xd0, 0x48, 0x8b, 0x03, 0xba, 0x10, 0x05, 0, 0, 0xef, 0xfa, 0xf4}

	// PortRead: mov edx, 0x510; in eax, dx; out dx, eax; cli; hlt
	PortRead = []byte{0xba, 0x10, 0x05, 0, 0, 0xed, 0xef, 0xfa, 0xf4}

	// StringOut: lea rsi, [rip+text]; mov edx, 0x510; mov ecx, 5; rep outsb; cli; hlt; text: "hello"
	StringOut = []byte{0x48, 0x8d, 0x35, 0x0e, 0, 0, 0, 0xba, 0x10, 0x05, 0, 0, 0xb9, 5, 0, 0, 0, 0xf3, 0x6e, 0xfa, 0xf4,
		'h', 'e', 'l', 'l', 'o'}

	// TripleFault: ud2, with the entry state's empty interrupt table
	TripleFault = []byte{0x0f, 0x0b}
)

// Port and memory address that the guests use.
const (
	Port = 0x510
	Addr = 0xd0000000
)
