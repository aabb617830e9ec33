package disk

import "fmt"

// Cache says when a guest's write counts as done. All modes but Unsafe keep what a guest was told is on disk.
type Cache int

const (
	// Writeback is the default: writes go to the host's page cache, and a guest's flush reaches stable storage.
	Writeback Cache = iota
	// Writethrough has each write on stable storage before the guest hears of it.
	Writethrough
	// None is Writeback past the host's page cache, with O_DIRECT.
	None
	// Unsafe is Writeback with flushes that do nothing: a crash of the host may lose or tear anything. For images that are thrown away.
	Unsafe
)

var cacheNames = [...]string{"writeback", "writethrough", "none", "unsafe"}

func (c Cache) String() string {
	if c < 0 || int(c) >= len(cacheNames) {
		return fmt.Sprintf("Cache(%d)", int(c))
	}
	return cacheNames[c]
}

// ParseCache gives the mode of a name; the empty name is the default.
func ParseCache(name string) (Cache, error) {
	if name == "" {
		return Writeback, nil
	}
	for i, n := range cacheNames {
		if n == name {
			return Cache(i), nil
		}
	}
	return 0, fmt.Errorf("cache mode %q is not known: use writeback, writethrough, none or unsafe", name)
}
