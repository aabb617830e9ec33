package polyvisor

// Slots is the number of operation slots that exist.
func (c *Conn) Slots() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.slots)
}

// Consoles is the number of consoles that Close would close.
func (c *Conn) Consoles() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// Queue is the number of operations on a domain: the one under way and those
// that wait for their turn.
func (c *Conn) Queue(d *Domain) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.slots[d.id]; s != nil {
		return s.refs
	}
	return 0
}
