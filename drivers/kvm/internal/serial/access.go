package serial

// Read implements the device side of a port bus. A wide access reads
// consecutive registers, as the 8-bit bus does; there is nothing past Size.
func (p *Port) Read(off uint64, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range data {
		if off >= Size {
			data[i] = 0xff
			continue
		}
		data[i] = p.readRegister(off)
		off++
	}
	p.update()
}

// Write implements the device side of a port bus; see Read for wide accesses.
func (p *Port) Write(off uint64, data []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range data {
		if off >= Size {
			return
		}
		p.writeRegister(off, v)
		p.update()
		off++
	}
}

func (p *Port) readRegister(off uint64) byte {
	r := &p.regs
	if off == regLSR {
		if r.polls++; r.polls >= pollReads {
			r.polls, r.polling = pollReads, true
			p.receive() // so that this read sees the byte
		}
	} else {
		r.polls = 0
	}
	switch off {
	case regData:
		if r.lcr&lcrDLAB != 0 {
			return r.dll
		}
		return p.pop()
	case regIER:
		if r.lcr&lcrDLAB != 0 {
			return r.dlm
		}
		return r.ier
	case regIIR:
		src := p.source()
		if src == iirTHRE {
			r.thre = false // reading IIR acknowledges this source, and only when it is shown
		}
		if r.fifoOn {
			src |= iirFIFO
		}
		return src
	case regLCR:
		return r.lcr
	case regMCR:
		return r.mcr
	case regLSR:
		v := byte(lsrIdle)
		if p.fifoLen > 0 {
			v |= lsrData
		}
		if r.overrun {
			v |= lsrOverrun
			r.overrun = false
		}
		return v
	case regMSR:
		v := r.modem() | r.delta
		r.delta = 0
		return v
	}
	return r.scr
}

func (p *Port) writeRegister(off uint64, v byte) {
	r := &p.regs
	r.polls = 0
	switch off {
	case regData:
		if r.lcr&lcrDLAB != 0 {
			r.dll = v
			return
		}
		p.transmit(v)
	case regIER:
		if r.lcr&lcrDLAB != 0 {
			r.dlm = v
			return
		}
		v &= ierMask
		if v&^r.ier&ierTHRE != 0 {
			r.thre = true // enabling it while the transmitter is empty asks again
		}
		r.ier = v
	case regIIR:
		p.writeFCR(v)
	case regLCR:
		r.lcr = v
	case regMCR:
		r.setMCR(v)
	case regSCR:
		r.scr = v
	}
	// LSR and MSR are read-only; their write side is for factory tests.
}

// writeFCR switches the FIFO. The data sheet empties the FIFO when the enable
// bit changes; here only the clear bit does, so that a byte which arrived just
// before the driver turns the FIFO on survives.
func (p *Port) writeFCR(v byte) {
	r := &p.regs
	r.fifoOn = v&fcrEnable != 0
	r.trigger = 1
	if r.fifoOn {
		r.trigger = [4]int{1, 4, 8, 14}[v>>6]
	}
	if v&fcrClearRX != 0 {
		p.fifoHead, p.fifoLen = 0, 0
		r.polling = false
	}
}

// transmit sends a byte. The transmitter is empty again when it returns, which
// is an interrupt of its own.
func (p *Port) transmit(v byte) {
	p.regs.thre = true
	if p.regs.mcr&mcrLoop == 0 {
		p.tx[0] = v
		_, _ = p.out.Write(p.tx[:])
		return
	}
	if p.fifoLen >= p.depth() {
		p.regs.overrun = true
		if p.regs.fifoOn {
			return // the FIFO keeps what it has; a lone holding register is overwritten
		}
		p.fifoLen = 0
	}
	p.push(v)
}
