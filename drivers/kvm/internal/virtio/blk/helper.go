package blk

// hand gives a request to the helpers. It does not block: there is room for all requests of all queues.
func (d *Device) hand(r *request) {
	if n := d.started.Load(); d.handed.Add(1) > n && n < Helpers && d.started.CompareAndSwap(n, n+1) {
		d.helpers.Go(d.help)
	}
	d.jobs <- r
}

// help is the goroutine of a helper, until jobs is closed.
func (d *Device) help() {
	for r := range d.jobs {
		for r != nil {
			r = d.serve(r)
		}
	}
}

// serve does a request and gives the next one if there is one already. Answers of brief ones to the same queue share an interrupt.
func (d *Device) serve(r *request) (next *request) {
	defer r.q.vq.Leave() // a pause has waited for this
	if d.stopping.Load() {
		d.handed.Add(-1)
		return nil
	}
	begun := d.now()
	r.execute(d)
	now := d.now()
	q := r.q
	d.handed.Add(-1)
	select {
	case next = <-d.jobs:
	default:
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	soon := next != nil && next.q == q && now-begun < brief && (next.op == opRead || next.op == opWrite && !d.writeThrough())
	if q.finish(r, now, now-begun) && !soon {
		q.signal()
	}
	return next
}
