//go:build !linux

package image

// Zero knows of no holes.
func (r *raw) Zero(_, n int64) (bool, int64, error) { return false, n, nil }
