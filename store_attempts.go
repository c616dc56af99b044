package libcluster

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/kv"
)

// attempts is what all attempts of one membership to join a store have in common.
type attempts struct {
	reg Registration

	mu    sync.Mutex // guards what follows
	drawn []kv.Owner // all of them
	begun []kv.Owner // whose leases have surely begun, the latest last
	wrote int64      // the revision of the latest write that succeeded

	drained bool // an operator has had this membership leave; used by one attempt after another

	recordsLimit
}

func newAttempts(r Registration) *attempts {
	if r.Logger == nil {
		r.Logger = zap.NewNop()
	}
	return &attempts{reg: r}
}

// Assigned is of no use to a store.
func (*attempts) Assigned(State) {}

// owner returns one that no attempt has had.
func (a *attempts) owner() kv.Owner {
	owner := a.draw()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drawn = append(a.drawn, owner)
	return owner
}

// draw returns an owner that nobody has had.
func (a *attempts) draw() kv.Owner { return kv.Owner(a.reg.chance.Below(math.MaxInt64)) + 1 }

func (a *attempts) hasBegun(owner kv.Owner) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !slices.Contains(a.begun, owner) {
		a.begun = append(a.begun, owner)
	}
}

// others returns the latest of those whose leases have begun, but one.
func (a *attempts) others(but kv.Owner) []kv.Owner {
	const enough = 16 // a transaction has no more room in every store
	a.mu.Lock()
	defer a.mu.Unlock()
	others := slices.DeleteFunc(slices.Clone(a.begun), func(o kv.Owner) bool { return o == but })
	return others[max(0, len(others)-enough):]
}

// lastWritten returns the revision of the latest write that succeeded.
func (a *attempts) lastWritten() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.wrote
}

// written notes at which revision the record was written last. In a store that was restored
// that is smaller than before.
func (a *attempts) written(revision int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wrote = revision
}

func (a *attempts) isOurs(owner kv.Owner) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Contains(a.drawn, owner)
}

// isOlder reports whether a record was last written before this instance wrote it, which
// is so only in a store that was restored. An instance that takes it over writes it later.
func (a *attempts) isOlder(r kv.Record) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return r.Version < a.wrote
}

// isRefused reports whether it is no use to send a request again.
func isRefused(err error) bool {
	return isFinal(err) || isPermanent(err) || errors.Is(err, kv.ErrRefused) || errors.Is(err, kv.ErrClosed) ||
		errors.As(err, new(*tooLargeError))
}

// leaseError finds the answer that proves the lease, and so the record, to be gone. Every
// other error leaves that open.
func leaseError(err error) error {
	if errors.Is(err, kv.ErrEnded) {
		return fmt.Errorf("%w: %w", ErrRecordGone, err)
	}
	return err
}
