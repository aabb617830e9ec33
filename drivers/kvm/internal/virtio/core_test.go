package virtio_test

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtio/virtiotest"
	"github.com/polyvisor/polyvisor/drivers/kvm/internal/virtq"
	"github.com/polyvisor/polyvisor/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// echo is a device that gives each request back with what it reads, and has a configuration of four bytes.
type echo struct {
	features      uint64
	config        [4]byte
	startErr      error
	slowStart     chan struct{} // Start waits for it to be closed, if there is one
	slow          chan struct{} // tells of each request, and it waits for an answer, if there is one
	starts, stops atomic.Int32
	run           atomic.Pointer[virtio.Run]
	ended         chan struct{}
}

func (e *echo) ID() uint16                    { return 42 }
func (e *echo) Features() uint64              { return e.features }
func (e *echo) QueueSizes() []uint16          { return []uint16{16, 8} }
func (e *echo) ConfigSize() int               { return len(e.config) }
func (e *echo) ReadConfig(off int, p []byte)  { copy(p, e.config[off:]) }
func (e *echo) WriteConfig(off int, p []byte) { copy(e.config[off:], p) }
func (e *echo) Stop()                         { <-e.ended; e.stops.Add(1) }
func (e *echo) Start(r *virtio.Run) error {
	e.starts.Add(1)
	if e.slowStart != nil {
		<-e.slowStart
	}
	if e.startErr != nil {
		return e.startErr
	}
	e.ended = make(chan struct{})
	e.run.Store(r)
	go func() {
		defer close(e.ended)
		s := virtio.Server{Queue: r.Queues[0], Batch: 4, Do: func(c *virtq.Chain, bad *virtq.ChainError) (uint32, error) {
			if bad != nil {
				return 0, nil
			}
			if e.slow != nil {
				e.slow <- struct{}{}
				<-e.slow
			}
			return uint32(copy(c.Writable[0], c.Readable[0])), nil
		}}
		r.Work(s.Serve)
	}()
	return nil
}

func TestRequestsAndResets(t *testing.T) {
	dev := &echo{features: 1 << 5}
	h := virtiotest.Start(t, dev, virtiotest.Options{Features: 1 << 5, EventIdx: true})
	for n := range int32(20) {
		require.Equal(t, []byte("hello"), h.Do(0, [][]byte{[]byte("hello")}, 9))
		require.True(t, dev.run.Load().Has(1<<5|virtio.FeatureEventIdx|virtio.FeatureVersion1))
		require.False(t, dev.run.Load().Has(virtio.FeaturePacked))
		h.Reset()
		require.Zero(t, h.Core.Features())
		require.EqualValues(t, 16, h.Core.Queue(0, virtio.QueueSize))
		require.EqualValues(t, n+1, dev.stops.Load())
		h.Begin()
	}
}

func TestFeaturesAreNegotiated(t *testing.T) {
	h := virtiotest.New(t, &echo{}, virtiotest.Options{})
	for name, f := range map[string]uint64{"not offered": virtio.FeatureVersion1 | 1<<3, "legacy": 0, "nobody's": virtio.FeatureVersion1 | 1<<40} {
		h.Core.SetStatus(virtio.StatusAcknowledge | virtio.StatusDriver)
		h.Core.SetFeatures(false, uint32(f))
		h.Core.SetFeatures(true, uint32(f>>32))
		h.Core.SetStatus(virtio.StatusFeaturesOK)
		require.Zero(t, h.Core.Status()&virtio.StatusFeaturesOK, name)
		h.Core.SetStatus(virtio.StatusDriverOK)
		h.Core.SetStatus(0)
	}
	h.Negotiate()
	h.Core.SetFeatures(false, 1<<3)
	require.EqualValues(t, virtio.FeatureVersion1, h.Core.Features(), "they stand once FEATURES_OK is said")
}

func TestDevicesOfferOnlyTheirOwnFeatures(t *testing.T) {
	_, err := virtio.New(virtio.Config{Device: &echo{features: virtio.FeatureVersion1}})
	require.ErrorContains(t, err, "not a device's")
	_, err = virtio.New(virtio.Config{Device: &echo{}})
	require.ErrorContains(t, err, "2 queues and 0 doorbells")
}

// Nothing that a working device relies on changes under it.
func TestQueuesAreFrozen(t *testing.T) {
	dev := &echo{}
	h := virtiotest.Start(t, dev, virtiotest.Options{})
	h.Do(0, [][]byte{{1}}, 1)
	for _, f := range []virtio.QueueField{virtio.QueueSize, virtio.QueueEnable, virtio.QueueDesc, virtio.QueueDriver, virtio.QueueDevice} {
		before := h.Core.Queue(0, f)
		h.Core.SetQueue(0, f, 2)
		require.Equal(t, before, h.Core.Queue(0, f))
	}
	h.Core.SetQueue(7, virtio.QueueSize, 4)
	h.Core.SetQueue(-1, virtio.QueueSize, 4)
	require.Zero(t, h.Core.Queue(7, virtio.QueueSize))
	h.Core.Kick(7)
	h.Core.Kick(-1)
	require.Equal(t, []byte{2}, h.Do(0, [][]byte{{2}}, 1))
}

func TestQueueSizesAreChecked(t *testing.T) {
	h := virtiotest.New(t, &echo{}, virtiotest.Options{})
	for _, bad := range []uint64{0, 3, 32, 1 << 16, 1 << 63} {
		h.Core.SetQueue(0, virtio.QueueSize, bad)
		require.EqualValues(t, 16, h.Core.Queue(0, virtio.QueueSize))
	}
	h.Core.SetQueue(0, virtio.QueueSize, 4)
	require.EqualValues(t, 4, h.Core.Queue(0, virtio.QueueSize))
}

// A queue that cannot be, and a device that cannot start, need a reset, and are told once.
func TestFailuresNeedAReset(t *testing.T) {
	t.Run("queue outside memory", func(t *testing.T) {
		dev := &echo{}
		h := virtiotest.New(t, dev, virtiotest.Options{})
		h.Negotiate()
		h.Core.SetQueue(0, virtio.QueueDesc, 1<<50)
		h.Core.SetQueue(0, virtio.QueueEnable, 1)
		h.Core.SetStatus(virtio.StatusDriverOK)
		h.WaitConfigInterrupt()
		require.NotZero(t, h.Core.Status()&virtio.StatusNeedsReset)
		require.ErrorIs(t, h.Failures()[0], virtq.ErrConfig)
		require.Zero(t, dev.starts.Load())
		h.Reset()
		h.Begin()
		require.Equal(t, []byte{1}, h.Do(0, [][]byte{{1}}, 1))
	})
	t.Run("start", func(t *testing.T) {
		dev := &echo{startErr: errors.New("no back end")}
		h := virtiotest.Start(t, dev, virtiotest.Options{})
		h.WaitConfigInterrupt()
		require.Equal(t, []error{dev.startErr}, h.Failures())
		dev.startErr = nil
		h.Reset()
		require.Zero(t, dev.stops.Load(), "what did not start is not stopped")
		h.Begin()
		require.Equal(t, []byte{1}, h.Do(0, [][]byte{{1}}, 1))
	})
	t.Run("at work", func(t *testing.T) {
		dev := &echo{}
		h := virtiotest.Start(t, dev, virtiotest.Options{})
		h.Do(0, [][]byte{{1}}, 1)
		dev.run.Load().Fail(errors.New("first"))
		dev.run.Load().Fail(errors.New("second"))
		h.WaitConfigInterrupt()
		require.Len(t, h.Failures(), 1)
	})
}

// The status does not read 0 before the reset is complete, however long a start takes.
func TestResetDuringStart(t *testing.T) {
	dev := &echo{slowStart: make(chan struct{})}
	h := virtiotest.Start(t, dev, virtiotest.Options{})
	require.Eventually(t, func() bool { return dev.starts.Load() == 1 }, virtiotest.Patience, time.Millisecond)
	h.Core.SetStatus(0)
	require.NotZero(t, h.Core.Status())
	h.Core.SetStatus(0)
	h.Core.SetStatus(virtio.StatusDriverOK)
	time.Sleep(5 * time.Millisecond)
	require.NotZero(t, h.Core.Status())
	close(dev.slowStart)
	require.Eventually(t, func() bool { return h.Core.Status() == 0 }, virtiotest.Patience, time.Millisecond)
	require.EqualValues(t, 1, dev.stops.Load())
}

// A driver that resets and starts at once, over and over, never makes two lives of a device run at a time.
func TestStormOfResets(t *testing.T) {
	dev := &echo{}
	h := virtiotest.New(t, dev, virtiotest.Options{})
	for n := range 300 {
		h.Begin()
		if n%3 == 0 {
			h.Do(0, [][]byte{{1}}, 1)
		}
		h.Reset()
		require.Equal(t, dev.starts.Load(), dev.stops.Load())
	}
}

func TestConfigurationSpace(t *testing.T) {
	dev := &echo{config: [4]byte{1, 2, 3, 4}}
	h := virtiotest.Start(t, dev, virtiotest.Options{})
	require.Equal(t, []byte{1, 2, 3, 4, 0, 0}, h.ReadConfig(0, 6))
	require.Equal(t, []byte{4, 0}, h.ReadConfig(3, 2))
	require.Equal(t, []byte{0}, h.ReadConfig(4, 1))
	require.Equal(t, []byte{0}, h.ReadConfig(-1, 1))
	h.Core.WriteConfig(3, []byte{9, 9, 9})
	h.Core.WriteConfig(100, []byte{9})
	require.Equal(t, []byte{1, 2, 3, 9}, dev.config[:])
	h.Do(0, [][]byte{{1}}, 1)
	before := h.Core.Generation()
	require.Equal(t, before, h.Core.Generation())
	dev.run.Load().ConfigChanged()
	h.WaitConfigInterrupt()
	require.Equal(t, before+1, h.Core.Generation())
}

// turns is a device that sees whether accesses to its configuration space come one at a time.
type turns struct {
	echo
	inside, together atomic.Int32
}

func (d *turns) ReadConfig(int, []byte)  { d.access() }
func (d *turns) WriteConfig(int, []byte) { d.access() }
func (d *turns) access() {
	if d.inside.Add(1) > 1 {
		d.together.Add(1)
	}
	time.Sleep(100 * time.Microsecond)
	d.inside.Add(-1)
}

// Several processors access the configuration space at once; the device need not know.
func TestConfigurationSpaceIsAccessedInTurns(t *testing.T) {
	dev := &turns{}
	h := virtiotest.New(t, dev, virtiotest.Options{})
	var cpus sync.WaitGroup
	for range 4 {
		cpus.Go(func() {
			for range 20 {
				h.Core.ReadConfig(0, make([]byte, 4))
				h.Core.WriteConfig(0, []byte{1})
			}
		})
	}
	cpus.Wait()
	require.Zero(t, dev.together.Load())
}
