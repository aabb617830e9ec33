package polyvisor_test

import (
	"context"
	"fmt"
	"log"

	"github.com/polyvisor/polyvisor"
)

func ExampleCPUSet() {
	cpus := polyvisor.CPUs(0, 1, 2, 9)
	fmt.Println(cpus, cpus.Len(), cpus.Has(9))
	fmt.Printf("%x\n", cpus.Map(4)) // libvirt's CPU map
	// Output:
	// 0-2,9 4 true
	// 07020000
}

func ExampleCode_Errno() {
	conn := open()
	defer conn.Close()
	_, err := conn.Domain(context.Background(), "nobody")
	code := polyvisor.CodeOf(err)
	fmt.Println(code.Errno(), code.Libvirt(), code.VM())
	// Output: no such file or directory libvirt error 42: not found VM error 1: not found
}

func ExampleCodeOf() {
	conn := open()
	defer conn.Close()
	_, err := conn.Domain(context.Background(), "nobody")
	switch polyvisor.CodeOf(err) {
	case polyvisor.CodeNotFound:
		fmt.Println("there is none:", err)
	case polyvisor.CodeConnLost, polyvisor.CodeClosed:
		fmt.Println("connect again")
	}
	// Output: there is none: fake: lookup "nobody": not found: no domain is named "nobody"
}

func ExampleParseURI() {
	u, err := polyvisor.ParseURI("qemu+ssh://me@host/system?keyfile=id")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(u.Scheme, u.Transport, u.User, u.Host, u.Path, u.Param("keyfile"), u.Remote())
	// Output: qemu ssh me host /system id true
}

func ExampleParseBytes() {
	size, err := polyvisor.ParseBytes("512MiB")
	fmt.Println(uint64(size), size, err)
	// Output: 536870912 512MiB <nil>
}

func ExampleParseConfig() {
	c, err := polyvisor.ParseConfig([]byte(`{"name": "web", "memory": "1GiB", "boot": {"kernel": "/boot/vmlinuz"}}`))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Name, c.Memory, c.Boot.Kernel)
	_, err = polyvisor.ParseConfig([]byte(`{"name": "web", "memroy": "1GiB"}`))
	fmt.Println(err)
	// Output:
	// web 1GiB /boot/vmlinuz
	// invalid configuration: json: unknown field "memroy"
}

func ExampleConfig_Validate() {
	c := polyvisor.Config{VCPUs: -1, OnCrash: "ignore"}
	fmt.Println(c.Validate())
	// Output: invalid configuration: name: empty: every domain needs a name; vcpus: -1 is negative; on_crash: "ignore" is not an action; want "destroy", "restart", "preserve" or "rename-restart"
}

func ExampleState_Allowed() {
	fmt.Println(polyvisor.Paused.Allowed(polyvisor.OpResume), polyvisor.Shutoff.Allowed(polyvisor.OpResume))
	// Output: true false
}

// A program that wraps a driver's Instance keeps the abilities it does not
// know of by an Unwrap method.
func ExampleAs() {
	var inst polyvisor.Instance = asInstance{&recInstance{}}
	_, ok := polyvisor.As[polyvisor.Suspender](inst)
	fmt.Println(ok)
	// Output: true
}
