// Package kv is what a store must do so that libcluster can keep clusters in it: leases,
// writes under conditions, and changes in one order. Neither this package nor a store
// knows anything of members and plans, and this package imports nothing of libcluster.
//
// libcluster.OnStore makes a registry of a store. Package kvtest holds a store to
// what is said here, each claim in a test of its own.
//
// A store holds records in spaces that know nothing of one another. (One in which names are
// paths may show in a space what spaces hold whose names begin with its name and '/', as etcd does.) A record may be under
// the lease of an owner, and goes when that lease ends. Everything that changes a space,
// the end of a lease included, is a commit: it happens at one instant, and has a revision
// that is larger than those before.
package kv

import (
	"context"
	"errors"
	"time"
)

var (
	// ErrEnded means that a lease has ended, or has never begun.
	ErrEnded = errors.New("the lease has ended")
	// ErrMissed means that a watch cannot tell all that has changed. Watch or Next returns it.
	ErrMissed = errors.New("changes have been missed")
	// ErrClosed means that the space has been closed.
	ErrClosed = errors.New("the space is closed")
	// ErrFenced means that a record is no longer as its fence says, and that what depends
	// on it must not be done.
	ErrFenced = errors.New("the fence does not stand any more")
	// ErrNoList means that nothing tells which spaces, or which clusters, there are.
	ErrNoList = errors.New("it keeps no list")
	// ErrRefused means that the store has looked at a request and will never carry it
	// out, such as without a permission. Every error that wraps none of these means that
	// the outcome is unknown, and that the next attempt may succeed.
	ErrRefused = errors.New("the store refuses it")
)

// Store is where spaces are. Any goroutine may use it.
type Store interface {
	// Open opens a space, which need not have been opened before. A space's name is
	// not empty, at most 800 bytes of printable UTF-8, and may contain '/'.
	Open(ctx context.Context, space string) (Space, error)
}

// Lister is a store that can tell which spaces are in it, for people: no cluster needs that.
type Lister interface {
	Store
	// Spaces returns the names of the spaces that have leases, each once and in any order, and
	// maybe those of others that were opened. It makes no space. A store around another one
	// that cannot tell returns an error that wraps ErrNoList.
	Spaces(ctx context.Context) ([]string, error)
}

// Owner names a lease. It is positive, and drawn at random by the caller: no two leases
// of a store have the same owner, ever. No record is under the lease of owner 0.
type Owner int64

// Record is one record of a space.
type Record struct {
	// Key is not empty, and at most 600 bytes of UTF-8. A store may refuse one that holds
	// anything that is not printable.
	Key string
	// Value is at most 1 MiB, any bytes.
	Value []byte
	// Owner is whose lease the record is under; 0: it is under none, and stays until it
	// is deleted.
	Owner Owner
	// Version is the revision of the commit that wrote it last, or that deleted it; 0: it
	// is not there.
	Version int64
	// Created is the Version of its first write since it was last not there.
	Created int64
}

// Mark is how far a space had come.
type Mark struct {
	// Store names the history that Revision counts in. A store that was put in the place
	// of another one, or restored, and knows it, has another name.
	Store string
	// Revision is positive: a watch from a mark is never one from now. It is not smaller
	// than that of the last commit that counts in what was returned, and smaller than that
	// of the next one.
	Revision int64
}

// Fence is a record as one commit has left it. If a database is a store, and also holds what
// a cluster works on, a transaction there can be made to depend on a fence.
type Fence struct {
	Space, Key string
	// Mark is of the commit: its Revision is the record's Version.
	Mark Mark
	// Member, unless it is empty, is the key of a second record, which must be Owner's.
	Member string
	Owner  Owner
}

// Space is one space as one user has opened it. Any goroutine may use it, and several
// at once. Every call returns soon after its context has ended, or the space was closed. A
// store may give up a request before that which seems to get no answer: the caller sends another.
type Space interface {
	// Begin begins a lease. It returns for how long the lease lives unless it is renewed,
	// counted from when Begin was *called*: at least ttl. It is refused while the owner
	// has a lease. If the outcome of a Begin is unknown, the caller draws another owner.
	Begin(ctx context.Context, owner Owner, ttl time.Duration) (time.Duration, error)
	// Renew has a lease live for the whole time that Begin has returned, counted from when Renew was
	// *called*, and returns that time. The error of a lease that has ended wraps ErrEnded. A lease
	// that has ended never lives again, and ends by nothing but End or the passing of its time.
	Renew(ctx context.Context, owner Owner) (time.Duration, error)
	// End ends a lease and deletes its records, in one commit. To end a lease that
	// has ended is no error.
	End(ctx context.Context, owner Owner) error

	// Get returns the record of a key at one instant after Get was called. The Version of a
	// record that is not there is 0.
	Get(ctx context.Context, key string) (Record, Mark, error)
	// List hands over, one after another, all records whose keys begin with prefix as they
	// were at one instant after List was called, in the order of their keys, bytewise. An error of
	// each ends it, and is returned. Nothing of the space may be called in each.
	List(ctx context.Context, prefix string, each func(Record) error) (Mark, error)
	// Commit carries out a transaction if all its conditions hold, all at one
	// instant after Commit was called. An error that wraps ErrEnded or ErrRefused means
	// that nothing was done; after any other error it may have been done, or may yet be.
	// A commit that changes nothing has no revision of its own.
	Commit(ctx context.Context, tx Tx) (Result, error)

	// Watch opens a watch of the keys that begin with prefix. It reports all commits
	// later than revision after; if that is 0, all that are carried out after Watch has returned. ctx bounds
	// only the opening. A watch from a revision that the space has not had yet may wait. If the
	// store can tell, the error may wrap ErrMissed instead.
	Watch(ctx context.Context, prefix string, after int64) (Watch, error)

	// Close ends every call and watch. Leases live on until their time has passed.
	Close() error
}

// Tx is a transaction. A key is in one of Put and Delete at most, and there only once.
type Tx struct {
	// If are the conditions. None: it is always carried out.
	If []Cond
	// Put are the records to write. Only their Key, Value and Owner count. If the lease
	// of an Owner has ended, nothing is done and the error wraps ErrEnded. If a condition
	// does not hold either, the store may tell that instead.
	Put []Record
	// Delete are the keys to delete. It is no error if one is not there.
	Delete []string
	// Each, if it is set, is handed what there is below Prefix at the same instant and after
	// the writes, as [Space].List does. An error of it does not undo the writes. It is not
	// called if a condition does not hold.
	Each   func(Record) error
	Prefix string
}

// Cond is a condition on the record of a key.
type Cond struct {
	Key string
	// Owned has the record's Owner compared, and otherwise its Version is. A record that
	// is not there has owner 0 and version 0.
	Owned   bool
	Owner   Owner
	Version int64
}

// AtVersion is the condition that a record's last write was that of version, or, if that
// is 0, that it is not there.
func AtVersion(key string, version int64) Cond { return Cond{Key: key, Version: version} }

// OwnedBy is the condition that a record is under the lease of owner, or, if that is 0,
// that it is under none or not there.
func OwnedBy(key string, owner Owner) Cond { return Cond{Key: key, Owned: true, Owner: owner} }

// Holds reports whether the condition holds for its record.
func (c Cond) Holds(r Record) bool {
	if c.Owned {
		return r.Owner == c.Owner
	}
	return r.Version == c.Version
}

// Result is what has become of a transaction.
type Result struct {
	// Done is that it was carried out. What it has written has Version Mark.Revision.
	Done bool
	Mark Mark
	// Records are, if it was not carried out, the one of each condition, in their order.
	Records []Record
}

// Watch is a stream of commits. One goroutine at a time uses it; any may close it.
type Watch interface {
	// Next waits for commits that Next has not returned yet, and returns what one or
	// several of them, in their order, have written and deleted: all of it, or an error. A
	// call whose context ends has taken nothing. After any other error the watch is over;
	// one that wraps ErrMissed means that no watch can tell what this one could not.
	Next(ctx context.Context) (Changes, error)
	// Close ends the watch. It may be called again.
	Close()
}

// Changes are what commits have changed.
type Changes struct {
	// Mark is of the last of these commits.
	Mark Mark
	// Records are in the order of the commits.
	Records []Change
}

// Change is one record that was written or deleted.
type Change struct {
	Record
	// Gone is that it was deleted. Then only its Key and Version count.
	Gone bool
}
