package virtio

// The registers of a device as its driver sees them, whatever the transport.

// Queues is how many queues the device has.
func (c *Core) Queues() int { return len(c.max) }

// QueueField is a register of a queue.
type QueueField int

// The registers of a queue.
const (
	QueueSize QueueField = iota
	QueueEnable
	QueueDesc
	QueueDriver
	QueueDevice
)

// Queue reads a register of a queue, 0 if there is no such queue.
func (c *Core) Queue(queue int, f QueueField) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if queue < 0 || queue >= len(c.queues) {
		return 0
	}
	q := &c.queues[queue]
	switch f {
	case QueueSize:
		return uint64(q.size)
	case QueueEnable:
		if q.enabled {
			return 1
		}
		return 0
	case QueueDesc:
		return q.desc
	case QueueDriver:
		return q.driver
	}
	return q.used
}

// SetQueue writes a register of a queue. What the driver may not write is ignored: a queue that does not exist or is
// enabled, a size that is no power of two or too large, and everything once the driver has said DRIVER_OK: nothing that
// a working device relies on changes under it.
func (c *Core) SetQueue(queue int, f QueueField, v uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if queue < 0 || queue >= len(c.queues) || c.queues[queue].enabled || c.status&StatusDriverOK != 0 || c.live || c.resetting {
		return
	}
	q := &c.queues[queue]
	switch f {
	case QueueSize:
		if v > 0 && v <= uint64(c.max[queue]) && v&(v-1) == 0 {
			q.size = uint16(v)
		}
	case QueueEnable:
		q.enabled = v == 1
	case QueueDesc:
		q.desc = v
	case QueueDriver:
		q.driver = v
	case QueueDevice:
		q.used = v
	}
}

// Kick rings the doorbell of a queue, for a transport that is told of kicks itself.
func (c *Core) Kick(queue int) {
	if queue >= 0 && queue < len(c.bells) {
		c.bells[queue].Ring()
	}
}

// Generation changes when the configuration space has changed since it was read last (section 2.5).
func (c *Core) Generation() uint8 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed {
		c.changed = false
		c.generation++
	}
	return c.generation
}

// ReadConfig reads the device's configuration space; what is beyond it reads as zeroes.
func (c *Core) ReadConfig(off int, p []byte) {
	clear(p)
	if n := c.cfg.Device.ConfigSize(); off >= 0 && off < n {
		c.space.Lock()
		defer c.space.Unlock()
		c.cfg.Device.ReadConfig(off, p[:min(len(p), n-off)])
	}
}

// WriteConfig writes to it; what is beyond it is lost.
func (c *Core) WriteConfig(off int, p []byte) {
	if n := c.cfg.Device.ConfigSize(); off >= 0 && off < n {
		c.space.Lock()
		defer c.space.Unlock()
		c.cfg.Device.WriteConfig(off, p[:min(len(p), n-off)])
	}
}
