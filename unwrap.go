package polyvisor

// Unwrap gives the driver of the connection, for what this package has no method
// for: As finds in it what it offers, such as the *libvirt.Libvirt of the libvirt
// driver. What is called there bypasses the checks of this package, among them that
// of a read-only connection, and must not be used after Close.
func (c *Conn) Unwrap() Driver { return c.driver }

// Unwrap gives the driver's reference to the domain, as Conn.Unwrap does.
func (d *Domain) Unwrap() Instance { return d.inst }
