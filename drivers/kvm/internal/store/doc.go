// Package store keeps what the kvm driver has on disk for one URI: the
// definitions of domains, the record of their last stop, the run directories of
// those that are active, and the locks between processes.
//
//	STATE/lock                      byte-range locks, see below
//	STATE/domains/UUID/domain.json  definition: format, name, UUID, opaque config
//	STATE/domains/UUID/stop.json    how the last run ended
//	STATE/domains/UUID/vmm.log      what the VM process had to say
//	RUN/last-id                     last numeric id given out
//	RUN/events                      journal of what happens, see [Journal]
//	RUN/UUID/run.json               id, process, start time, config of this run
//	RUN/UUID/control.sock           control socket of the VM process
//
// Nothing on disk says "running". A domain is active while its run directory
// exists and its life lock is held; a domain is persistent while it has a
// definition. So a killed process cannot leave a state that is wrong, only files
// that [Store.Reap] takes away.
//
// # Locks
//
// All locks are open-file-description locks (fcntl(2), F_OFD_SETLK) on single
// bytes of STATE/lock, which is created once and never removed: there is no lock
// file to clean up and no race with its removal, the kernel frees the lock with
// the last descriptor, the descriptor can be inherited, and F_OFD_GETLK asks
// without taking. There are three kinds:
//
//   - the store lock (byte 0) guards the set of names, UUIDs and run directories.
//     It is held for milliseconds, in Define, Redefine, Undefine, NewRun and Reap;
//   - the operation lock, one per domain, serialises operations of several
//     processes on that domain ([Store.LockDomain]);
//   - the life lock, one per domain, is held from before its run directory becomes
//     visible until after it is gone: first by the process that starts the domain,
//     then, through the inherited descriptor, by the VM process.
//
// Order: operation lock, then store lock. The life lock is only ever tried.
//
// The life lock lives in the state directory and not in the run directory, so two
// programs that disagree about the run directory (XDG_RUNTIME_DIR set in one and
// not in the other) cannot run one domain twice.
package store
