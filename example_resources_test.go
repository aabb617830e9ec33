package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/polyvisor/polyvisor"
)

func ExampleDomain_SetVCPUs() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web", VCPUs: 1, MaxVCPUs: 2})

	// A running guest gets more up to the maximum that it was started with.
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(dom.SetVCPUs(ctx, 4))
	if err := dom.SetVCPUs(ctx, 2); err != nil {
		log.Fatal(err)
	}
	vcpus, err := dom.VCPUs(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range vcpus {
		fmt.Println("vCPU", v.Number, "is", v.State)
	}
	// Output:
	// fake: set vcpus "web": invalid configuration: vcpus: 4; this domain was started with room for 2
	// vCPU 0 is running
	// vCPU 1 is running
}

func ExampleDomain_ConfigureVCPU() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web", VCPUs: 2})

	// vCPU 1 gets twice the usual share of the CPUs 2 and 3.
	err := dom.ConfigureVCPU(ctx, polyvisor.VCPUConfig{Number: 1, Affinity: polyvisor.CPUs(2, 3), Weight: 200})
	if err != nil {
		log.Fatal(err)
	}
	c, err := dom.Config(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range c.VCPU {
		fmt.Println(v.Number, v.Affinity, v.Weight)
	}
	fmt.Println(dom.ConfigureVCPU(ctx, polyvisor.VCPUConfig{Number: 2}))
	// Output:
	// 1 2-3 200
	// fake: configure vcpu "web": invalid configuration: vcpu: number 2; the domain has 0 to 1
}

func ExampleDomain_SetMaxMemory() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web", Memory: polyvisor.GiB})

	// The maximum is raised first, while the domain does not run.
	if err := dom.SetMaxMemory(ctx, 4*polyvisor.GiB); err != nil {
		log.Fatal(err)
	}
	if err := dom.SetMemory(ctx, 3*polyvisor.GiB); err != nil {
		log.Fatal(err)
	}
	info, err := dom.Info(ctx)
	fmt.Println(info.Memory, "of", info.MaxMemory, err)

	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}
	fmt.Println(errors.Is(dom.SetMaxMemory(ctx, 8*polyvisor.GiB), polyvisor.ErrInvalidState))
	// Output:
	// 3GiB of 4GiB <nil>
	// true
}

func ExampleDomain_UpdateDevice() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	image := newFile("disk image")
	defer image.remove()
	dom := defined(conn, &polyvisor.Config{
		Name:  "web",
		Disks: []polyvisor.Disk{{Target: "vda", Source: polyvisor.Path(image.path)}},
	})

	// The device is found by its name; the rest is what it shall be.
	err := dom.UpdateDevice(ctx, &polyvisor.Disk{Target: "vda", Source: polyvisor.Path(image.path), Mode: polyvisor.DeviceReadOnly})
	if err != nil {
		log.Fatal(err)
	}
	c, err := dom.Config(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(c.Disks), c.Disks[0].Target, c.Disks[0].Mode)
	err = dom.UpdateDevice(ctx, &polyvisor.Disk{Target: "vdb", Source: polyvisor.Path(image.path)})
	fmt.Println(errors.Is(err, polyvisor.ErrNotFound))
	// Output:
	// 1 vda ro
	// true
}

func ExampleDomain_AttachDevice() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web"})

	err := dom.AttachDevice(ctx, &polyvisor.Disk{Source: polyvisor.Path("/img/data.qcow2"), Format: polyvisor.FormatQCOW2})
	if err != nil {
		log.Fatal(err)
	}
	c, err := dom.Config(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Disks[0].Target, c.Disks[0].Source)
	// The name is all that is needed to find it again.
	fmt.Println(dom.DetachDevice(ctx, &polyvisor.Disk{Target: "vda"}))
	// Output:
	// vda /img/data.qcow2
	// <nil>
}

func ExampleDomain_SetMemory() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web", Memory: polyvisor.GiB, MaxMemory: 2 * polyvisor.GiB})

	fmt.Println(dom.SetMemory(ctx, 3*polyvisor.GiB))
	if err := dom.SetMemory(ctx, 2*polyvisor.GiB); err != nil {
		log.Fatal(err)
	}
	info, err := dom.Info(ctx)
	fmt.Println(info.Memory, err)
	// Output:
	// fake: set memory "web": invalid configuration: memory: 3GiB is more than the maximum, 2GiB; see SetMaxMemory
	// 2GiB <nil>
}

func ExampleDomain_PinVCPU() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web", VCPUs: 2})

	cpus, err := polyvisor.ParseCPUSet("0-3,^2")
	if err != nil {
		log.Fatal(err)
	}
	if err := dom.PinVCPU(ctx, 1, cpus); err != nil {
		log.Fatal(err)
	}
	vcpus, err := dom.VCPUs(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, v := range vcpus {
		fmt.Printf("vCPU %d is %s, may run on %q\n", v.Number, v.State, v.Affinity)
	}
	// Output:
	// vCPU 0 is offline, may run on ""
	// vCPU 1 is offline, may run on "0-1,3"
}
