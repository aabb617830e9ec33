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
	return len(c.consoles)
}
