package polyvisor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"strings"
	"time"

	"github.com/polyvisor/polyvisor"
)

// The examples run on the driver in memory, as programs run on those that they import:
//
//	import _ "github.com/polyvisor/polyvisor/drivers/kvm" // kvm:///session

// open connects to a hypervisor of the example's own.
func open() *polyvisor.Conn { return openFake() }

func Example() {
	ctx := context.Background()
	conn, err := polyvisor.Open(ctx, "fake:///default") // kvm:///session with drivers/kvm
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()

	dom, err := conn.Create(ctx, &polyvisor.Config{
		Name:   "web",
		Memory: 512 * polyvisor.MiB,
		VCPUs:  2,
		// Boot names a kernel, or a firmware; without it the driver's own small guest runs.
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
	// running, 1 vCPUs, 2GiB, CPU time 0s
	// fake: define "a/b": invalid configuration: name: "a/b" contains a slash; memory: 1000B is not a multiple of 4KiB
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
	// fake: suspend "web": domain is paused, suspend needs it running or blocked; resume it first
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
	// The fake's guest begins with an empty line, says what it is and then does what it is told.
	lines := bufio.NewScanner(con)
	lines.Scan()
	lines.Scan()
	fmt.Println(lines.Text())
	_, err = io.WriteString(con, "poweroff\n")
	fmt.Println(err)
	// Output:
	// polyvisor fake guest 1
	// <nil>
}

// tell has the fake's guest do something, and waits until it has said so. Other guests have programs for that.
func tell(dom *polyvisor.Domain, command, answer string) {
	con, err := dom.Console(context.Background(), polyvisor.ConsoleOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer con.Close()
	if _, err := io.WriteString(con, command+"\n"); err != nil {
		log.Fatal(err)
	}
	for lines := bufio.NewScanner(con); lines.Scan() && !strings.HasSuffix(lines.Text(), answer); {
	}
}

func ExampleDomain_DialVsock() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web", Vsock: &polyvisor.VsockConfig{}})
	if err != nil {
		log.Fatal(err)
	}
	tell(dom, "vsock-serve 5000", "listening") // a program in the guest that gives back what it is sent

	stream, err := dom.DialVsock(ctx, 5000)
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	if _, err := io.WriteString(stream, "ping\n"); err != nil {
		log.Fatal(err)
	}
	line, err := bufio.NewReader(stream).ReadString('\n')
	fmt.Printf("%q from port %d, %v\n", line, stream.RemoteAddr().(polyvisor.VsockAddr).Port, err)
	// Output: "ping\n" from port 5000, <nil>
}

func ExampleDomain_ListenVsock() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web", Vsock: &polyvisor.VsockConfig{}})
	if err != nil {
		log.Fatal(err)
	}
	l, err := dom.ListenVsock(ctx, 6000)
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	tell(dom, "vsock-send 6000 hello", "vsock-send 6000 hello") // a program in the guest that connects to CID 2, port 6000

	stream, err := l.Accept()
	if err != nil {
		log.Fatal(err)
	}
	defer stream.Close()
	said, err := io.ReadAll(stream)
	fmt.Printf("%s, %v\n", said, err)
	// Output: hello, <nil>
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

// defined gives a domain that is not running, for the examples below.
func defined(conn *polyvisor.Conn, c *polyvisor.Config) *polyvisor.Domain {
	dom, err := conn.Define(context.Background(), c)
	if err != nil {
		log.Fatal(err)
	}
	return dom
}

func ExampleConn_Subscribe() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web"})

	// Subscribe first, then act: nothing is missed.
	events, err := conn.Subscribe(ctx, polyvisor.SubscribeOptions{Domain: dom})
	if err != nil {
		log.Fatal(err)
	}
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := dom.Destroy(ctx); err != nil {
		log.Fatal(err)
	}
	for e := range events.All(ctx) {
		fmt.Println(e.Seq, e.Type, e.Name, e.State)
		if e.Stop != nil {
			fmt.Println("because of", e.Stop)
			break // All waits for more
		}
	}
	// Output:
	// 1 started web running
	// 2 stopped web shutoff
	// because of killed
}

func ExampleDomain_SetState() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web"})

	// By whatever operation leads there: start paused, resume, destroy.
	for _, want := range []polyvisor.State{polyvisor.Paused, polyvisor.Running, polyvisor.Running, polyvisor.Shutoff} {
		if err := dom.SetState(ctx, want); err != nil {
			log.Fatal(err)
		}
		have, err := dom.State(ctx)
		fmt.Println(have, err)
	}
	// Output:
	// paused <nil>
	// running <nil>
	// running <nil>
	// shutoff <nil>
}

func ExampleDomain_Save() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web"})
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}

	file := newFile("")
	defer file.remove()
	saved := file.path + ".saved" // say, /var/lib/saved/web
	if err := dom.Save(ctx, saved); err != nil {
		log.Fatal(err)
	}
	s, err := dom.State(ctx)
	fmt.Println(s, err)
	dom, err = conn.Restore(ctx, saved)
	if err != nil {
		log.Fatal(err)
	}
	s, err = dom.State(ctx)
	fmt.Println(s, err)
	// Output:
	// shutoff <nil>
	// running <nil>
}

func ExampleDomain_SetLabels() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	for _, name := range []string{"web", "db"} {
		dom := defined(conn, &polyvisor.Config{Name: name})
		if err := dom.SetLabels(ctx, map[string]string{"team": "a", "tier": name}); err != nil {
			log.Fatal(err)
		}
	}
	doms, err := conn.Domains(ctx, polyvisor.DomainFilter{Labels: map[string]string{"tier": "db"}})
	if err != nil {
		log.Fatal(err)
	}
	for _, dom := range doms {
		fmt.Println(dom.Name())
	}
	// Output: db
}

func ExampleDomain_Rename() {
	conn := open()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web"})
	err := dom.Rename(context.Background(), "web-old")
	fmt.Println(dom.Name(), err)
	// Output: web-old <nil>
}

func ExampleDomain_XML() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.DefineXML(ctx, "<domain><name>web</name><uuid>1b4e28ba-2fa1-11d2-883f-0016d3cca427</uuid></domain>")
	if err != nil {
		log.Fatal(err)
	}
	xml, err := dom.XML(ctx)
	if err != nil {
		log.Fatal(err)
	}
	// All that the driver filled in is in it, so that it makes the same domain again.
	for _, line := range strings.Split(xml, "\n") {
		if strings.Contains(line, "<name>") || strings.Contains(line, "<memory ") || strings.Contains(line, "<on_reboot>") {
			fmt.Println(line)
		}
	}
	// Output:
	//   <name>web</name>
	//   <memory unit="KiB">262144</memory>
	//   <on_reboot>restart</on_reboot>
}

func ExampleConn_Stats() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	for _, name := range []string{"web", "db"} {
		defined(conn, &polyvisor.Config{Name: name})
	}
	all, err := conn.Stats(ctx, polyvisor.DomainFilter{Inactive: true})
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range all {
		fmt.Println(s.Name, s.Info.State)
	}
	// Output:
	// db shutoff
	// web shutoff
}

// A guest's first words are not missed if its console is opened before it runs.
func ExampleStartPaused() {
	ctx := context.Background()
	conn := open()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web"}, polyvisor.StartPaused())
	if err != nil {
		log.Fatal(err)
	}
	con, err := dom.Console(ctx, polyvisor.ConsoleOptions{})
	if err != nil {
		log.Fatal(err)
	}
	defer con.Close()
	fmt.Println(dom.Resume(ctx))
	// Output: <nil>
}

func ExampleReadOnly() {
	ctx := context.Background()
	conn, err := polyvisor.Open(ctx, "fake:///default", polyvisor.ReadOnly())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	_, err = conn.Define(ctx, &polyvisor.Config{Name: "web"})
	fmt.Println(err)
	// Output: fake: define "web": connection is read-only
}
