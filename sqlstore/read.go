package sqlstore

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"slices"
	"time"

	"github.com/libcluster/libcluster/internal/calls"
	"github.com/libcluster/libcluster/kv"
)

// head is what a space is like at one instant.
type head struct {
	mark   kv.Mark
	pruned int64         // the changes up to this revision are not kept
	leases bool          // there are leases
	due    time.Duration // in which the first of them will have had its time
}

// The two selections of a statement are of one instant: in all of the databases, a
// statement that is no part of a transaction reads one snapshot.
const (
	selectHead = `SELECT {store}.id{timeline}, {space}.revision, {space}.pruned, {read-only},
	(SELECT MIN(expires) FROM {lease} WHERE {lease}.space = {space}.name) - {now},
	NULL, NULL, NULL, NULL, NULL, NULL
FROM {space}, {store} WHERE {space}.name = ?
UNION ALL `
	selectRecords = selectHead + `SELECT NULL, NULL, NULL, NULL, NULL, name, value, owner, version, created, 0
FROM {record} WHERE space = ? AND name >= ? AND name < ? {all}`
	selectChanges = selectHead + `SELECT NULL, NULL, NULL, NULL, NULL, name, value, owner, revision, created, gone
FROM {change} WHERE space = ? AND name >= ? AND name < ? AND revision > ? AND revision <= ? {all}`
)

// reapWithin is how long one that reads waits for its turn to end leases.
const reapWithin = time.Second

// look runs one of the statements above. Leases that have had their time are ended
// first: then it looks a second time.
func (sp *space) look(ctx context.Context, on caller, statement string, args ...any) (head, []kv.Change, error) {
	h, changes, err := sp.lookOnce(ctx, on, statement, args...)
	if err != nil || !h.leases || h.due > 0 {
		return h, changes, err
	}
	within, cancel := context.WithTimeout(ctx, reapWithin)
	defer cancel()
	if err := sp.reapNow(within); err != nil {
		return h, changes, nil // until another one has ended them they are there
	}
	return sp.lookOnce(ctx, on, statement, args...)
}

func (sp *space) lookOnce(ctx context.Context, on caller, statement string, args ...any) (h head, changes []kv.Change, err error) {
	err = sp.with(ctx, on, func(ctx context.Context, c session) error {
		changes = nil
		found, readOnly := false, false
		err := c.query(ctx, statement, append([]any{sp.name, sp.name}, args...), func(rows *sql.Rows) error {
			var id sql.NullString
			var revision, pruned, reading, due, owner, version, created, gone sql.NullInt64
			var name, value []byte
			err := rows.Scan(&id, &revision, &pruned, &reading, &due, &name, &value, &owner, &version, &created, &gone)
			if err != nil {
				return err
			}
			if id.Valid {
				found, readOnly = true, reading.Int64 != 0
				h = head{
					kv.Mark{Store: id.String, Revision: revision.Int64},
					pruned.Int64,
					due.Valid, time.Duration(due.Int64) * time.Microsecond,
				}
				return nil
			}
			change := kv.Change{Gone: gone.Int64 != 0, Record: kv.Record{
				Key: string(name), Value: value, Owner: kv.Owner(owner.Int64), Version: version.Int64, Created: created.Int64,
			}}
			changes = append(changes, change)
			return nil
		})
		switch {
		case err != nil:
			return err
		case !found:
			return errNoSpace
		case readOnly: // what it holds may be old
			return errReadOnly
		}
		return nil
	})
	slices.SortFunc(changes, func(a, b kv.Change) int {
		return cmp.Or(cmp.Compare(a.Version, b.Version), cmp.Compare(a.Key, b.Key))
	})
	return h, changes, err
}

// Get needs none of the pool's connections, as Renew does not: a heartbeat is both.
func (sp *space) Get(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
	records, mark, err := sp.list(ctx, "reading a record", sp.onOwnIfAny, []byte(key), append([]byte(key), 0))
	if err != nil || len(records) == 0 {
		return kv.Record{Key: key}, mark, err
	}
	return records[0], mark, nil
}

// List hands over what it has read when the connection is given back: the application may
// take its time.
func (sp *space) List(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) {
	records, mark, err := sp.list(ctx, "listing records", sp.store.onPool, []byte(prefix), past(prefix))
	if err != nil {
		return mark, err
	}
	return mark, calls.Hand(records, each)
}

// list returns the records from one key to before another one.
func (sp *space) list(ctx context.Context, what string, on caller, from, to []byte) ([]kv.Record, kv.Mark, error) {
	type answer struct {
		head    head
		records []kv.Record
	}
	a, err := calls.Do(ctx, sp.life, what, func(ctx context.Context) (answer, error) {
		h, changes, err := sp.look(ctx, on, selectRecords, from, to)
		records := make([]kv.Record, len(changes))
		for i, c := range changes {
			records[i] = c.Record
		}
		sortByKey(records)
		return answer{h, records}, err
	})
	return a.records, a.head.mark, err
}

func sortByKey(records []kv.Record) {
	slices.SortFunc(records, func(a, b kv.Record) int { return cmp.Compare(a.Key, b.Key) })
}

// past returns the least bytes that are larger than all keys with the prefix. No byte
// of a key is 0xff.
func past(prefix string) []byte {
	end := bytes.TrimRight([]byte(prefix), "\xff")
	if len(end) == 0 {
		return []byte{0xff}
	}
	end[len(end)-1]++
	return end
}
