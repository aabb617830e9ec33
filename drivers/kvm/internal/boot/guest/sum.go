package guest

// mixer is the odd constant of the fill and sum commands.
const mixer = 0x9e3779b97f4a7c15

// Checksum returns what the guest's "sum MIB" prints after "fill MIB SEED", and
// how many MiB that is: fewer than asked when the machine has no more whole
// MiB above 2 MiB. It takes time in proportion to mib.
func Checksum(cfg Config, mib, seed uint64) (sum, done uint64) {
	for _, r := range cfg.ranges() {
		start := max((r.addr+0xfffff)&^0xfffff, freeAddr)
		for ; start+0x100000 <= r.addr+r.size && done < mib; start += 0x100000 {
			for a := start; a < start+0x100000; a += 8 {
				sum = (sum + (a+seed)*mixer) * mixer
			}
			done++
		}
	}
	return sum, done
}
