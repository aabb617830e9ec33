package polyvisor_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/polyvisor/polyvisor"
	"github.com/polyvisor/polyvisor/drivers/fake"
)

// openFake connects to a hypervisor of its own, which simulates what guests do.
func openFake(opts ...polyvisor.Option) *polyvisor.Conn {
	conn, err := fake.New(fake.Options{}).Open(context.Background(), opts...)
	if err != nil {
		log.Fatal(err)
	}
	return conn
}

// scratch is a file in a directory of its own.
type scratch struct{ dir, path string }

func newFile(content string) scratch {
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	s := scratch{dir, filepath.Join(dir, "file")}
	if err := os.WriteFile(s.path, []byte(content), 0o600); err != nil {
		log.Fatal(err)
	}
	return s
}

func (s scratch) remove() { _ = os.RemoveAll(s.dir) }

func ExampleDomain_Reboot() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web", OnReboot: polyvisor.ActionRestart})
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}
	events, err := conn.Subscribe(ctx, polyvisor.SubscribeOptions{Domain: dom})
	if err != nil {
		log.Fatal(err)
	}
	defer events.Close()

	// The guest is asked, and boots anew when it has obeyed.
	if err := dom.Reboot(ctx); err != nil {
		log.Fatal(err)
	}
	e, err := events.Next(ctx)
	fmt.Println(e.Type, e.State, err)
	// Output: rebooted running <nil>
}

func ExampleDomain_CoreDump() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dir := newFile("")
	defer dir.remove()
	dom := defined(conn, &polyvisor.Config{Name: "web"})
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}

	core := filepath.Join(dir.dir, "web.core")
	if err := dom.CoreDump(ctx, core); err != nil {
		log.Fatal(err)
	}
	file, err := os.Stat(core)
	if err != nil {
		log.Fatal(err)
	}
	s, err := dom.State(ctx)
	fmt.Println(file.Size() > 0, s, err) // the guest goes on
	fmt.Println(errors.Is(dom.CoreDump(ctx, core), polyvisor.ErrExists))
	// Output:
	// true running <nil>
	// true
}

func ExampleDomain_Undefine() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web"})
	if err := dom.Start(ctx); err != nil {
		log.Fatal(err)
	}

	// What runs goes on without its definition, and is gone when it stops.
	if err := dom.Undefine(ctx); err != nil {
		log.Fatal(err)
	}
	info, err := dom.Info(ctx)
	fmt.Println(info.State, info.Persistent, err)
	if err := dom.Destroy(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = conn.Domain(ctx, "web")
	fmt.Println(errors.Is(err, polyvisor.ErrNotFound))
	// Output:
	// running false <nil>
	// true
}

func ExampleDomain_SetAutostart() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom := defined(conn, &polyvisor.Config{Name: "web"})
	if err := dom.SetAutostart(ctx, true); err != nil {
		log.Fatal(err)
	}
	c, err := dom.Config(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(c.Autostart)
	// Output: true
}

func ExampleConn_CreateXML() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom, err := conn.CreateXML(ctx, `<domain type="fake">
  <name>job</name>
  <memory unit="MiB">128</memory>
  <vcpu>2</vcpu>
  <os><type>hvm</type></os>
</domain>`)
	if err != nil {
		log.Fatal(err)
	}
	info, err := dom.Info(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dom.Name(), info.State, info.Persistent, info.Memory, info.VCPUs)
	// Output: job running false 128MiB 2
}

func ExampleConn_DomainByID() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	dom, err := conn.Create(ctx, &polyvisor.Config{Name: "web"})
	if err != nil {
		log.Fatal(err)
	}

	// An ID is of one run.
	id, err := dom.ID(ctx)
	if err != nil {
		log.Fatal(err)
	}
	same, err := conn.DomainByID(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(same.Name())
	if err := dom.Destroy(ctx); err != nil {
		log.Fatal(err)
	}
	_, err = conn.DomainByID(ctx, id)
	fmt.Println(errors.Is(err, polyvisor.ErrNotFound))
	// Output:
	// web
	// true
}

func ExampleConn_DomainByUUID() {
	ctx := context.Background()
	conn := openFake()
	defer conn.Close()
	id := uuid.MustParse("1b4e28ba-2fa1-11d2-883f-0016d3cca427")
	defined(conn, &polyvisor.Config{Name: "web", UUID: id})

	// A UUID stays when the name changes.
	dom, err := conn.DomainByUUID(ctx, id)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dom.Name(), dom.UUID())
	// Output: web 1b4e28ba-2fa1-11d2-883f-0016d3cca427
}

// An early connection runs the domains that the files of a directory describe.
func ExampleEarly() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "early")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	xml := `<domain type="fake"><name>net</name><memory unit="MiB">64</memory><os><type>hvm</type></os></domain>`
	if err := os.WriteFile(filepath.Join(dir, "net.xml"), []byte(xml), 0o644); err != nil {
		log.Fatal(err)
	}

	conn := openFake(polyvisor.Early(dir)) // polyvisor.Open takes it
	defer conn.Close()
	dom, err := conn.Domain(ctx, "net")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dom.Start(ctx))
	_, err = conn.Define(ctx, &polyvisor.Config{Name: "other"})
	fmt.Println(errors.Is(err, polyvisor.ErrPermission))
	// Output:
	// <nil>
	// true
}
