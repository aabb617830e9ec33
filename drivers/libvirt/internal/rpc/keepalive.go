package rpc

import (
	"fmt"
	"time"
)

// keepAlive is guarded by Client.mu.
type keepAlive struct {
	running bool
}

// KeepAlive has the client ask the server for a sign of life each time nothing
// has come from it for interval. When count such questions have gone unanswered
// the connection ends with ErrKeepAlive: interval x (count + 1) after the last
// byte from the server. To be called once, with an interval above zero, when
// the server is known to support it (feature 10 of CONNECT_SUPPORTS_FEATURE);
// more calls, and calls after the end, do nothing. The server's own questions
// are answered in any case.
//
// While the client does not read because of Options.PauseStreams, nothing
// counts as unanswered; questions are still sent, so that the server knows that
// the client lives.
func (c *Client) KeepAlive(interval time.Duration, count int) {
	if interval <= 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil || c.keepAlive.running {
		return
	}
	c.keepAlive.running = true
	c.wg.Go(func() { c.keepTime(interval, max(count, 0)) })
}

func (c *Client) keepTime(interval time.Duration, count int) {
	// Silence is counted from now, if it began earlier: nothing was asked.
	began := time.Since(c.start)
	asked := 0
	timer := time.NewTimer(interval)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-c.done:
			return
		}
		if last := time.Duration(c.lastRead.Load()); last > began {
			began, asked = last, 0
		}
		if c.paused.Load() {
			began, asked = time.Since(c.start), 0
			c.ping()
		}
		silent := time.Since(c.start) - began
		for silent >= time.Duration(asked+1)*interval {
			if asked == count {
				c.fail(fmt.Errorf("%w: nothing came from the server for %v, in which it was asked %d times", ErrKeepAlive, silent.Round(time.Millisecond), count))
				return
			}
			asked++
			c.ping()
		}
		timer.Reset(time.Duration(asked+1)*interval - silent)
	}
}

func (c *Client) ping() {
	c.out.control(Header{Program: ProgramKeepAlive, Version: version, Procedure: keepAlivePing, Type: TypeMessage}, nil)
}
