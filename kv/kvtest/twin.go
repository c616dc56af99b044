package kvtest

import (
	"bytes"
	"cmp"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"

	"github.com/libcluster/libcluster/kv"
)

// twin is what a space must hold after the same transactions, and what watches must have
// reported of them.
type twin struct {
	records map[string]kv.Record
	log     []kv.Change
}

func newTwin() *twin { return &twin{records: make(map[string]kv.Record)} }

// did has the twin do what a commit at a revision has done.
func (w *twin) did(tx kv.Tx, revision int64) {
	for _, r := range tx.Put {
		r.Value = bytes.Clone(r.Value)
		r.Version, r.Created = revision, cmp.Or(w.records[r.Key].Created, revision)
		w.records[r.Key] = r
		w.log = append(w.log, kv.Change{Record: r})
	}
	for _, key := range tx.Delete {
		if _, ok := w.records[key]; ok {
			delete(w.records, key)
			w.log = append(w.log, kv.Change{Record: kv.Record{Key: key, Version: revision}, Gone: true})
		}
	}
}

// list is what a List must return.
func (w *twin) list() []kv.Record {
	var all []kv.Record
	for _, r := range w.records {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b kv.Record) int { return strings.Compare(a.Key, b.Key) })
	return all
}

// logs returns what watches must report of several twins after a revision.
func logs(after int64, twins ...*twin) []kv.Change {
	var all []kv.Change
	for _, w := range twins {
		all = append(all, w.log...)
	}
	return since(after, all)
}

// since returns the changes after a revision, in their order.
func since(after int64, changes []kv.Change) []kv.Change {
	changes = slices.DeleteFunc(slices.Clone(changes), func(c kv.Change) bool { return c.Version <= after })
	slices.SortStableFunc(changes, func(a, b kv.Change) int { return cmp.Compare(a.Version, b.Version) })
	return changes
}

// told has the twin learn of a commit from a watch.
func (w *twin) told(changes []kv.Change) {
	for _, c := range changes {
		switch {
		case c.Version <= w.records[c.Key].Version: // known from a later list
		case c.Gone:
			delete(w.records, c.Key)
		default:
			w.records[c.Key] = c.Record
		}
	}
}

// churn has a user commit at random what touches nobody else's keys, and the twin too.
func (u *user) churn(w *twin, hand, commits int, owners ...kv.Owner) error {
	for n := range commits {
		var tx kv.Tx
		for k := range 4 {
			key := fmt.Sprintf("hand %d/%d", hand, k)
			switch rand.IntN(4) {
			case 0:
				tx.Put = append(tx.Put, record(key, fmt.Sprint(n), owners[rand.IntN(len(owners))]))
			case 1:
				tx.Delete = append(tx.Delete, key)
			case 2:
				tx.If = append(tx.If, kv.AtVersion(key, w.records[key].Version))
			}
		}
		result, err := u.Commit(u.within(), tx)
		if err != nil {
			return fmt.Errorf("churn: %w", err)
		}
		if !result.Done {
			return fmt.Errorf("nobody else touches these keys, but a condition does not hold: %s; it tells %q", txText(tx), texts(result.Records))
		}
		w.did(tx, result.Mark.Revision)
		runtime.Gosched()
	}
	return nil
}
