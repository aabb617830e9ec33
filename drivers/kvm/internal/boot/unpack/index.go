package unpack

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// settleTime is how long ago a file must have changed before its identity is
// trusted: file times are too coarse to tell a change right after hashing.
var settleTime = 2 * time.Second

func settled(st os.FileInfo, now time.Time) bool {
	return now.Sub(lastChange(st)) > settleTime
}

// indexPath is where the digest of the file with this identity is noted.
func (c *Cache) indexPath(ident string) string {
	h := sha256.Sum256([]byte(ident))
	return filepath.Join(c.Dir, indexPrefix+hex.EncodeToString(h[:16]))
}

// lookup finds the digest of a file that was hashed before.
func (c *Cache) lookup(ident string) (digest string, ok bool) {
	if ident == "" {
		return "", false
	}
	b, err := readSmall(c.indexPath(ident))
	if err != nil {
		return "", false
	}
	gotIdent, digest, ok := strings.Cut(strings.TrimSuffix(string(b), "\n"), "\n")
	return digest, ok && gotIdent == ident && isDigest(digest)
}

func isDigest(s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && len(b) == sha256.Size
}

// remember notes the digest of a file.
func (c *Cache) remember(ident, digest string) error {
	if ident == "" {
		return nil
	}
	return c.replace(c.indexPath(ident), []byte(ident+"\n"+digest+"\n"))
}

const (
	// staleTemp is the age at which a temporary file is taken for the
	// leftover of a process that died.
	staleTemp = time.Hour
	maxIndex  = 512
)

type cacheFile struct {
	name string
	size int64
	used time.Time
}

// evict brings the cache back under its bounds, oldest use first, and sweeps up
// what died processes left. It never removes the entry of keep. What cannot be
// removed now is tried again at the next start.
func (c *Cache) evict(keep string) {
	limit := c.MaxBytes
	if limit <= 0 {
		limit = DefaultCacheBytes
	}
	names, err := os.ReadDir(c.Dir)
	if err != nil {
		return
	}
	var entries, index []cacheFile
	var total int64
	for _, d := range names {
		st, err := d.Info()
		if err != nil || !st.Mode().IsRegular() {
			continue
		}
		name := d.Name()
		file := cacheFile{name, st.Size(), st.ModTime()}
		digest, isEntry := strings.CutSuffix(name, entrySuffix)
		switch {
		case isEntry && isDigest(digest):
			if meta, err := os.Stat(c.metaPath(digest)); err == nil {
				file.used = meta.ModTime()
			}
			total += file.size
			if digest != keep {
				entries = append(entries, cacheFile{digest, file.size, file.used})
			}
		case strings.HasPrefix(name, indexPrefix):
			index = append(index, file)
		case strings.HasPrefix(name, tempPrefix) && time.Since(file.used) > staleTemp:
			os.Remove(filepath.Join(c.Dir, name))
		}
	}
	byUse := func(a, b cacheFile) int { return cmp.Or(a.used.Compare(b.used), strings.Compare(a.name, b.name)) }
	slices.SortFunc(entries, byUse)
	for _, e := range entries {
		if total <= limit {
			break
		}
		os.Remove(c.metaPath(e.name))
		os.Remove(c.entryPath(e.name))
		total -= e.size
	}
	slices.SortFunc(index, byUse)
	for len(index) > maxIndex {
		os.Remove(filepath.Join(c.Dir, index[0].name))
		index = index[1:]
	}
}
