package dirstore

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// document is all that a space holds at one number. It never changes: what changes a space
// makes another document, with the next number. The number is the revision too.
type document struct {
	number int64
	id     string // no two documents have the same
	prev   string // the ID of the document before
	sign   string // what the file begins with
	size   int    // of the file

	store   string // the name of the history
	turn    int    // how often this process has seen that go back before; it is in no file
	network bool   // heartbeats are commits
	oldest  int64  // all files of lower numbers had been removed before
	leases  map[kv.Owner]lease
	records map[string]kv.Record
	gone    []string // the keys that this number deleted
}

// lease is what a document says of a lease. That it is there means that it lives.
type lease struct {
	TTL time.Duration `json:"ttl"`
	// Beat counts the renewals that were commits.
	Beat int64 `json:"beat"`
	// Doubted has every renewal be a commit: the heartbeat's file does not count.
	Doubted bool `json:"doubted,omitempty"`
}

// genesis is the first document of a space.
func genesis(store, id string, network bool) *document {
	return &document{number: 1, id: id, store: store, network: network, oldest: 1}
}

// next is the document that follows, with the same contents.
func (d *document) next(id string) *document {
	n := *d
	n.number, n.id, n.prev, n.sign, n.size, n.gone = d.number+1, id, d.id, "", 0, nil
	return &n
}

func (d *document) mark() kv.Mark {
	m := kv.Mark{Store: d.store, Revision: d.number}
	if d.turn > 0 {
		m.Store += fmt.Sprintf(" after it went back (%d)", d.turn)
	}
	return m
}

// get returns a record as a caller may keep it.
func (d *document) get(key string) kv.Record {
	r, ok := d.records[key]
	if !ok {
		return kv.Record{Key: key}
	}
	r.Value = bytes.Clone(r.Value)
	return r
}

// list returns the records whose keys begin with prefix, in the order of their keys.
func (d *document) list(prefix string) []kv.Record {
	var records []kv.Record
	for key := range d.records {
		if strings.HasPrefix(key, prefix) {
			records = append(records, d.get(key))
		}
	}
	slices.SortFunc(records, func(a, b kv.Record) int { return cmp.Compare(a.Key, b.Key) })
	return records
}

// changes returns what this number has changed of the keys that begin with prefix.
func (d *document) changes(prefix string) []kv.Change {
	var changes []kv.Change
	for key, r := range d.records {
		if r.Version == d.number && strings.HasPrefix(key, prefix) {
			changes = append(changes, kv.Change{Record: d.get(key)})
		}
	}
	for _, key := range d.gone {
		if strings.HasPrefix(key, prefix) {
			changes = append(changes, kv.Change{Record: kv.Record{Key: key, Version: d.number}, Gone: true})
		}
	}
	slices.SortFunc(changes, func(a, b kv.Change) int { return cmp.Compare(a.Key, b.Key) })
	return changes
}

// shortest returns the time of the lease that has the shortest, or 0.
func (d *document) shortest() time.Duration {
	var shortest time.Duration
	for _, l := range d.leases {
		if shortest == 0 || l.TTL < shortest {
			shortest = l.TTL
		}
	}
	return shortest
}

// A change makes the next document of one, or returns nil if there is nothing to change. Its
// error is a verdict on what is there.
type change func(d *document, id string) (*document, error)

// begin begins a lease.
func begin(owner kv.Owner, ttl time.Duration) change {
	return func(d *document, id string) (*document, error) {
		if _, lives := d.leases[owner]; lives {
			return nil, fmt.Errorf("%w: the owner has a lease", kv.ErrRefused)
		}
		return d.lend(id, owner, lease{TTL: ttl, Doubted: d.network}), nil
	}
}

// lend is the next document, in which an owner has a lease.
func (d *document) lend(id string, owner kv.Owner, l lease) *document {
	n := d.next(id)
	n.leases = maps.Clone(d.leases)
	if n.leases == nil {
		n.leases = map[kv.Owner]lease{}
	}
	n.leases[owner] = l
	return n
}

// renew renews a lease by a commit, after which it is not doubted any more.
func renew(owner kv.Owner) change {
	return func(d *document, id string) (*document, error) {
		l, lives := d.leases[owner]
		if !lives {
			return nil, kv.ErrEnded
		}
		l.Beat++
		l.Doubted = d.network
		return d.lend(id, owner, l), nil
	}
}

// beats are owners, and the renewals by commits that an observer has seen of each.
type beats map[kv.Owner]int64

// doubt doubts the leases that live and have not been renewed by a commit since.
func doubt(seen beats) change {
	return func(d *document, id string) (*document, error) {
		var n *document
		for owner, beat := range seen {
			l, lives := d.leases[owner]
			if !lives || l.Doubted || l.Beat != beat {
				continue
			}
			l.Doubted = true
			if n == nil {
				n = d.lend(id, owner, l)
			}
			n.leases[owner] = l
		}
		return n, nil
	}
}

// bury ends the leases that are doubted and have not been renewed by a commit since.
func bury(seen beats) change {
	return func(d *document, id string) (*document, error) {
		var dead []kv.Owner
		for owner, beat := range seen {
			if l, lives := d.leases[owner]; lives && l.Doubted && l.Beat == beat {
				dead = append(dead, owner)
			}
		}
		return end(dead...)(d, id)
	}
}

// end ends leases, and deletes their records.
func end(owners ...kv.Owner) change {
	return func(d *document, id string) (*document, error) {
		n := d.next(id)
		n.leases = maps.Clone(d.leases)
		for _, owner := range owners {
			delete(n.leases, owner)
		}
		if len(n.leases) == len(d.leases) {
			return nil, nil
		}
		var keys []string
		for key, r := range d.records {
			if _, lives := n.leases[r.Owner]; r.Owner != 0 && !lives {
				keys = append(keys, key)
			}
		}
		n.write(nil, keys)
		return n, nil
	}
}

// commit carries out a transaction.
func (d *document) commit(tx kv.Tx, id string) (kv.Result, *document, error) {
	holds := true
	found := make([]kv.Record, len(tx.If))
	for i, c := range tx.If {
		found[i] = d.get(c.Key)
		holds = holds && c.Holds(found[i])
	}
	if !holds {
		return kv.Result{Mark: d.mark(), Records: found}, nil, nil
	}
	for _, r := range tx.Put {
		if _, lives := d.leases[r.Owner]; r.Owner != 0 && !lives {
			return kv.Result{}, nil, fmt.Errorf("putting %q: %w", r.Key, kv.ErrEnded)
		}
	}
	n := d.next(id)
	if !n.write(tx.Put, tx.Delete) {
		return kv.Result{Done: true, Mark: d.mark()}, nil, nil
	}
	return kv.Result{Done: true, Mark: n.mark()}, n, nil
}

// write puts and deletes records in a document that is being made, and reports whether that
// changes anything.
func (d *document) write(puts []kv.Record, deletes []string) bool {
	records := maps.Clone(d.records)
	if records == nil {
		records = map[string]kv.Record{}
	}
	for _, r := range puts {
		r.Value = bytes.Clone(r.Value)
		r.Version, r.Created = d.number, cmp.Or(records[r.Key].Created, d.number)
		records[r.Key] = r
	}
	for _, key := range deletes {
		if _, there := records[key]; there {
			delete(records, key)
			d.gone = append(d.gone, key)
		}
	}
	slices.Sort(d.gone)
	d.records = records
	return len(puts)+len(d.gone) > 0
}
