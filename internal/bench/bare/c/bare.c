// The reference that our exit path is measured against: the least that a program needs to run a guest and come back from
// each of its port accesses. It runs the machine code given as hexadecimal in argv[1] in 64-bit mode with the first GiB mapped
// to itself, in a machine that has the same interrupt chips as ours.
//
// Each line on standard input is a number of exits; the answer is a line with the nanoseconds they took, by the wall clock
// and by the thread's processor time. Nothing is done with an exit except to look at its reason.
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>

enum { MEMORY = 64 << 20, CODE = 0x1000000, PML4 = 0x9000, PDPT = 0xa000, PD = 0xb000, MAX_CPUID = 256 };

static void check(long r, const char *what)
{
	if (r < 0) {
		fprintf(stderr, "bare: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static uint64_t now(clockid_t clock)
{
	struct timespec t;
	check(clock_gettime(clock, &t), "clock_gettime");
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static size_t load(uint8_t *to, const char *hex)
{
	size_t n = strlen(hex) / 2;
	for (size_t i = 0; i < n; i++) {
		unsigned v;
		if (n > 4096 || sscanf(hex + 2 * i, "%2x", &v) != 1) {
			fprintf(stderr, "bare: the guest's code must be at most 4096 bytes in hexadecimal\n");
			exit(2);
		}
		to[i] = v;
	}
	return n;
}

static void enter_long_mode(int cpu, uint8_t *mem)
{
	((uint64_t *)(mem + PML4))[0] = PDPT | 3;
	((uint64_t *)(mem + PDPT))[0] = PD | 3;
	for (uint64_t i = 0; i < 512; i++)
		((uint64_t *)(mem + PD))[i] = i << 21 | 0x83;

	struct kvm_sregs s;
	check(ioctl(cpu, KVM_GET_SREGS, &s), "KVM_GET_SREGS");
	s.cr0 = 0x80000011;
	s.cr3 = PML4;
	s.cr4 = 0x20;
	s.efer = 0x500;
	struct kvm_segment data = { .limit = 0xffffffff, .selector = 0x18, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1 };
	s.ds = s.es = s.fs = s.gs = s.ss = data;
	s.cs = (struct kvm_segment){ .limit = 0xffffffff, .selector = 0x10, .type = 0xb, .present = 1, .s = 1, .l = 1, .g = 1 };
	s.tr = (struct kvm_segment){ .limit = 0x67, .selector = 0x20, .type = 0xb, .present = 1 };
	check(ioctl(cpu, KVM_SET_SREGS, &s), "KVM_SET_SREGS");
	struct kvm_regs r = { .rip = CODE, .rflags = 2 };
	check(ioctl(cpu, KVM_SET_REGS, &r), "KVM_SET_REGS");
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: bare CODE-IN-HEXADECIMAL\n");
		return 2;
	}
	int kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	check(kvm, "/dev/kvm");
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);
	check(vm, "KVM_CREATE_VM");
	uint64_t map = 0xfffbc000;
	check(ioctl(vm, KVM_SET_IDENTITY_MAP_ADDR, &map), "KVM_SET_IDENTITY_MAP_ADDR");
	check(ioctl(vm, KVM_SET_TSS_ADDR, 0xfffbd000), "KVM_SET_TSS_ADDR");
	check(ioctl(vm, KVM_CREATE_IRQCHIP, 0), "KVM_CREATE_IRQCHIP");
	struct kvm_pit_config pit = { 0 };
	check(ioctl(vm, KVM_CREATE_PIT2, &pit), "KVM_CREATE_PIT2");

	uint8_t *mem = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	check(mem == MAP_FAILED ? -1 : 0, "mmap of guest memory");
	struct kvm_userspace_memory_region region = { .memory_size = MEMORY, .userspace_addr = (uintptr_t)mem };
	check(ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region), "KVM_SET_USER_MEMORY_REGION");
	load(mem + CODE, argv[1]);

	int cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	check(cpu, "KVM_CREATE_VCPU");
	static struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[MAX_CPUID];
	} cpuid;
	cpuid.head.nent = MAX_CPUID;
	check(ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid), "KVM_GET_SUPPORTED_CPUID");
	check(ioctl(cpu, KVM_SET_CPUID2, &cpuid), "KVM_SET_CPUID2");
	enter_long_mode(cpu, mem);

	int size = ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	check(size, "KVM_GET_VCPU_MMAP_SIZE");
	struct kvm_run *run = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	check(run == MAP_FAILED ? -1 : 0, "mmap of the run page");

	unsigned long exits;
	while (scanf("%lu", &exits) == 1) {
		uint64_t wall = now(CLOCK_MONOTONIC), cputime = now(CLOCK_THREAD_CPUTIME_ID);
		for (unsigned long i = 0; i < exits; i++) {
			int r = ioctl(cpu, KVM_RUN, 0);
			if (r < 0 && errno != EINTR)
				check(r, "KVM_RUN");
			if (r == 0 && run->exit_reason != KVM_EXIT_IO) {
				fprintf(stderr, "bare: exit reason %u\n", run->exit_reason);
				return 1;
			}
		}
		cputime = now(CLOCK_THREAD_CPUTIME_ID) - cputime;
		wall = now(CLOCK_MONOTONIC) - wall;
		printf("%llu %llu\n", (unsigned long long)wall, (unsigned long long)cputime);
		fflush(stdout);
	}
	return 0;
}
