package dirstore

import (
	"slices"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// observer remembers what one process has seen of the leases of a space. It goes by nothing but
// the clock of that process, and asks only whether something has changed.
type observer map[kv.Owner]sighting

type sighting struct {
	sign  string    // of the last renewal
	since time.Time // when it was read first, and the reading had ended
	lives bool      // it has changed meanwhile
}

// saw notes what was read of a lease from began to ended. It returns for how long nothing has
// changed, at least, and whether the owner has been seen to renew.
func (o observer) saw(owner kv.Owner, sign string, began, ended time.Time) (quiet time.Duration, lives bool) {
	s, known := o[owner]
	if !known || s.sign != sign {
		o[owner] = sighting{sign, ended, known}
		return 0, known
	}
	return began.Sub(s.since), s.lives
}

// forget forgets the leases that have ended.
func (o observer) forget(d *document) {
	for owner := range o {
		if _, lives := d.leases[owner]; !lives {
			delete(o, owner)
		}
	}
}

// round is in which order a process looks at leases: from its own one on downwards,
// and then from the highest. Each process looks at one after another until it has found an
// owner that renews. So each owner that renews is watched by the one above it, which
// also watches the dead between them; and as long as all renew, each is looked at by one.
func round(d *document, own kv.Owner) []kv.Owner {
	owners := make([]kv.Owner, 0, len(d.leases))
	for owner := range d.leases {
		owners = append(owners, owner)
	}
	slices.Sort(owners)
	at, _ := slices.BinarySearch(owners, own)
	owners = append(owners[at:], owners[:at]...) // from own upwards
	slices.Reverse(owners)
	return owners
}
