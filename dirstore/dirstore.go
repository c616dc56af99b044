// Package dirstore keeps clusters in a folder that all processes can reach. It needs no
// server.
//
//	cluster, err := libcluster.New(libcluster.Config{
//		Key:      "mailer",
//		Registry: libcluster.OnStore(dirstore.Dir("/var/lib/mailer/cluster")),
//	})
//
// Every mode works, ModeExclusive too. A [Store] is a store as package kv describes them.
//
// # What it needs
//
// Linux or macOS, and a folder on a local disk or in memory, such as one of ext4, xfs, btrfs
// or tmpfs. All are processes of one machine, in containers or not. Open refuses a file system that it does
// not know to be local, unless Network is set. The folder must be there: one that Join made could be below
// a mount point on which nothing is mounted yet. For the same reason name a folder inside what is mounted, and not the
// mount point: where nothing is mounted that is another folder, and an empty one is another cluster.
// Who may write to the folder may change all. Every
// user may not: Open refuses that. Several users need a common group, and a folder that is
// the group's and hands it on (chgrp GROUP, chmod 2770): what a process makes there its group may read and
// write, whatever the umask. A space that one user has made before that needs the same. What root makes, such as an
// operator who drains an instance, belongs to the owner of the folder.
//
// To start anew, or to put back a backup, stop all processes first. An instance that finds another
// folder, or an older state, is fenced with libcluster.ErrRegistryReset, but only when it looks next: until then
// it acts beside those that were there before it.
//
// # How it works
//
// Each space is a folder, and all that it holds is one file with a number, s.N. To change
// something a process writes the next file under another name, and links it to the next
// number, which succeeds for one. Nobody holds a lock. A process that is stopped or killed in the
// middle of a call, or that sleeps for an hour, holds up nobody and changes nothing afterwards.
//
// A file of its own for each lease, h.OWNER, is written over with each renewal. An owner is dead if
// that has not changed for the time of its lease, by the monotonic clock of a process that
// watches it. So no two clocks are ever compared, and a clock that is set ends no lease. Each owner is watched
// by one other one, the next by number; if that is dead too, by the next after it. Somebody has to
// look: while no process has the space open, no lease ends.
//
// # A power cut
//
// It ends all processes of the machine with the leases that they had, so little depends on
// what was written last, and nothing waits for the disk but the first document and two in 32.
// What is lost in a power cut is as if it had never been. The next instances go on from what
// is there, and it is no other store.
//
// # What it costs
//
// At rest an instance with the default TTL makes about 45 system calls a second, and writes about 35
// bytes to one file. A change writes all that the space holds, some 150 bytes a member. The last 1,024
// documents are kept, as far as they fit into 64 MiB, but 64 in any case.
//
// A full disk stops all changes. Heartbeats go on where writing over a file takes no room, as on
// ext4, xfs and tmpfs. On btrfs, zfs and bcachefs, which copy on write, a full disk may
// stop heartbeats too, and then leases end.
//
// # On a network
//
// What an NFS client shows may be up to a minute old. With Network set only the answers of link(2) decide: each
// renewal, each read but those of watches, and each change that changes nothing makes another document, and
// each document is synced. Then a heartbeat is two commits, and a change by another machine may be
// seen as late as the next heartbeat. ModeDirect and ModePlanned are meant for this. ModeExclusive also rests on
// what nobody has tried here: that the server's link is atomic and outlasts the server's
// crash (no "async" export), and that opening a file asks the server (no "nocto" mount). SMB, FUSE
// and 9p have links on some servers only.
package dirstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// DefaultPoll is the default of Store.Poll.
const DefaultPoll = 200 * time.Millisecond

// Store is a folder as a kv.Store. Any goroutine may use it. Its fields must not be
// changed after the first call.
type Store struct {
	// Poll is how often each watch looks for changes, and the time by which the end of a
	// lease may be seen late. Changes of the same Store are seen at once. The default is
	// DefaultPoll. Each look reads two small files.
	Poll time.Duration
	// Network says that the folder is on a file system of a network: see "On a network". It must be the
	// same in all processes, also in those of the machine that has the disk.
	Network bool

	dir   string
	files files
	id    string // of this Store, in its heartbeats
	keep  int64  // how many documents are kept at most

	mu      sync.Mutex
	folders map[string]*folder // by the name of the space; none is ever removed
}

var _ kv.Lister = (*Store)(nil)

// Dir returns the store in a folder, which must exist.
func Dir(path string) *Store {
	return &Store{dir: path, files: disk(path), id: newID(), keep: keepMost, folders: map[string]*folder{}}
}

// String returns "the folder PATH".
func (s *Store) String() string { return "the folder " + s.dir }

// Open opens a space. If there is none it makes a folder for it. The error wraps
// kv.ErrRefused if the name is not one, or if the folder of the store cannot be used: since it is not
// there, has no hard links, is one that every user may write to or this one may not, or is on
// a file system of a network and Network is not set. It makes, links and removes a file to find out; a
// full disk refuses nothing.
func (s *Store) Open(ctx context.Context, name string) (kv.Space, error) {
	const what = "opening a space"
	if err := calls.CheckSpace(name); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", what, kv.ErrRefused, err)
	}
	sp := newSpace(s.folder(name))
	_, err := call(ctx, sp.life, sp.f, what, func(ctx context.Context) (struct{}, error) {
		if err := s.files.check(s.Network); err != nil {
			return struct{}{}, fmt.Errorf("%w: %w", kv.ErrRefused, err)
		}
		err := sp.f.prepare(ctx)
		if forbids(err) {
			err = fmt.Errorf("%w: %w", kv.ErrRefused, err)
		}
		return struct{}{}, err
	})
	if err != nil {
		_ = sp.Close() // never fails
		return nil, err
	}
	return sp, nil
}

// Spaces returns the names of the spaces that have ever been opened: their leases are in their
// documents. What is foreign in the folder is passed over.
func (s *Store) Spaces(ctx context.Context) ([]string, error) {
	return calls.Do(ctx, context.Background(), "listing spaces", func(context.Context) ([]string, error) {
		if err := s.files.check(s.Network); err != nil {
			return nil, fmt.Errorf("%w: %w", kv.ErrRefused, err)
		}
		folders, err := s.files.list(".")
		if err != nil {
			return nil, err
		}
		var names []string
		for _, folder := range folders {
			name, err := s.spaceIn(folder)
			if err != nil {
				return nil, err
			}
			if name != "" {
				names = append(names, name)
			}
		}
		return names, nil
	})
}

// spaceIn returns the name of the space in a folder, or nothing if that is foreign. The name of a
// folder may be too short for it.
func (s *Store) spaceIn(folder string) (string, error) {
	if name := spaceOf(folder); name != "" || !isShortened(folder) {
		return name, nil
	}
	name, err := s.files.read(folder+"/"+fullName, maxName)
	switch {
	case errors.Is(err, errForeign), errors.Is(err, fs.ErrNotExist), err == nil && folderName(string(name)) != folder:
		return "", nil
	}
	return string(name), err
}

// Look has the watches of a space look for changes at once, such as when another process has said
// that there are some. It is no more than a hint, and does not block.
func (s *Store) Look(space string) {
	s.mu.Lock()
	f := s.folders[space]
	s.mu.Unlock()
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.ring()
	}
}

func (s *Store) folder(name string) *folder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.folders[name] == nil {
		s.folders[name] = newFolder(s, name)
	}
	return s.folders[name]
}

func (s *Store) poll() time.Duration {
	if s.Poll > 0 {
		return s.Poll
	}
	return DefaultPoll
}
