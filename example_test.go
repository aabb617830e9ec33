package polyvisor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"time"

	"github.com/polyvisor/polyvisor"
)

// The examples run on a driver in memory, as programs run on those that they
// import:
//
//	import _ "github.com/polyvisor/polyvisor/drivers/kvm" // kvm:///session
func init() {
	polyvisor.Register("example", polyvisor.Registration{
		Open: func(context.Context, *polyvisor.URI, polyvisor.OpenOptions) (polyvisor.Driver, error) {
			r := newRecorder(nil)
			r.name = "example"
			return r, nil
		},
	})
}

// open connects for the examples below.
func open() *polyvisor.Conn {
	conn, err := polyvisor.Open(context.Background(), "example:///session")
	if err != nil {
		log.Fatal(err)
	}
	return conn
}

func Example() {
	ctx := context.Background()
	conn, err := polyvisor.Open(ctx, "example:///session") // kvm:///session with drivers/kvm
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	dom, err := conn.Create(ctx, &polyvisor.Config{
		Name:   "web",
		Memory: 512 * polyvisor.MiB,
		VCPUs:  2,
		Boot: polyvisor.Boot{
			Kernel:      polyvisor.Path("/boot/vmlinuz"),
			Initrd:      polyvisor.Path("/boot/initrd.img"),
			CommandLine: "console=ttyS0",
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := dom.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	stop, err := dom.Wait(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stop.Reason)
	// Output: shutdown
}

func ExampleConn_Define() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()

	// A definition outlives the run, and the program.
	dom, err := conn.Define(ctx, &polyvisor.Config{Name: "db", Memory: 2 * polyvisor.GiB})
	if err != nil {
		log.Fatal(err)
	}
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}
	info, err := dom.Info(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(info)

	// All that is wrong with a configuration is told at once.
	_, err = conn.Define(ctx, &polyvisor.Config{Name: "a/b", Memory: 1000})
	fmt.Println(err)
	// Output:
	// running, 1 vCPUs, 2GiB, CPU time 1.5s
	// example: define "a/b": invalid configuration: name: "a/b" contains a slash; memory: 1000B is not a multiple of 4KiB
}

func ExampleConn_Create() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()

	// A transient domain is gone when it stops. Without anything to boot it
	// runs the driver's own small guest, where there is one.
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "job"})
	if err != nil {
		log.Fatal(err)
	}
	if err := dom.Destroy(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = conn.Domain(ctx, "job")
	fmt.Println(errors.Is(err, polyvisor.ErrNotFound))
	// Output: true
}

func ExampleConn_Domains() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	for _, name := range []string{"web", "db", "mail"} {
		dom, err := conn.Define(ctx, &polyvisor.Config{Name: name})
		if err != nil {
			log.Fatal(err)
		}
		if name != "mail" {
			if err := dom.Start(ctx); err != nil {
				log.Fatal(err)
			}
		}
	}

	active, err := conn.Domains(ctx, polyvisor.DomainFilter{Active: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, dom := range active {
		fmt.Println(dom.Name())
	}
	// Output:
	// db
	// web
}

func ExampleConn_Capabilities() {
	conn := open()
	defer conn.Close()
	caps := conn.Capabilities()
	fmt.Println(caps.Arch, caps.Has(polyvisor.FeatureSuspend))
	// Output: amd64 true
}

func ExampleDomain_Suspend() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web"})
	if err != nil {
		log.Fatal(err)
	}
	for _, step := range []func(context.Context) error{dom.Suspend, dom.Suspend, dom.Resume} {
		if err := step(ctx); err != nil {
			fmt.Println(err) // what is not legal now says why, and what to do
		}
	}
	s, err := dom.State(ctx)
	fmt.Println(s, err)
	// Output:
	// example: suspend "web": domain is paused, suspend needs it running or blocked; resume it first
	// running <nil>
}

// A guest that does not obey in time is stopped the hard way.
func ExampleDomain_Shutdown() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web"})
	if err != nil {
		log.Fatal(err)
	}

	if err := dom.Shutdown(ctx); err != nil {
		log.Fatal(err)
	}
	patience, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	stop, err := dom.Wait(patience)
	if errors.Is(err, context.DeadlineExceeded) {
		if err := dom.Destroy(ctx); err != nil {
			log.Fatal(err)
		}
		stop, err = dom.Wait(ctx)
	}
	fmt.Println(stop, err)
	// Output: shutdown <nil>
}

func ExampleDomain_Console() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web"})
	if err != nil {
		log.Fatal(err)
	}

	con, err := dom.Console(ctx, polyvisor.ConsoleOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer con.Close()
	line, err := bufio.NewReader(con).ReadString('\n')
	if err != nil {
		log.Fatal(err)
	}
	fmt.Print(line)
	_, err = io.WriteString(con, "poweroff\n")
	fmt.Println(err)
	// Output:
	// hello from the guest
	// <nil>
}

func ExampleDomain_Remove() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.Define(ctx, &polyvisor.Config{Name: "web"})
	if err != nil {
		log.Fatal(err)
	}
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}
	// Running or not, defined or not: it is gone afterwards.
	if err := dom.Remove(ctx); err != nil {
		log.Fatal(err)
	}
	doms, err := conn.Domains(ctx, polyvisor.DomainFilter{})
	fmt.Println(len(doms), err)
	// Output: 0 <nil>
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
	// Output: there is none: example: lookup "nobody": no domain: not found
}

func ExampleReadOnly() {
	ctx := context.Background()
	conn, err := polyvisor.Open(ctx, "example:///session", polyvisor.ReadOnly())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Define(ctx, &polyvisor.Config{Name: "web"})
	fmt.Println(err)
	// Output: example: define "web": connection is read-only
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
