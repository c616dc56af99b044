package sqlstore

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// IsMounted reports whether Linux has mounted something at a path.
var IsMounted = isMounted

// Keep sets for how many revisions the changes are kept.
func (s *Store) Keep(revisions int64) { s.keep = revisions }

// Forget removes all changes of a space.
func (s *Store) Forget(ctx context.Context, name string) error {
	return s.onPool(ctx, func(ctx context.Context, c session) error {
		if _, err := c.exec(ctx, `UPDATE {space} SET pruned = revision WHERE name = ?`, []byte(name)); err != nil {
			return err
		}
		_, err := c.exec(ctx, `DELETE FROM {change} WHERE space = ?`, []byte(name))
		return err
	})
}

// EndIdle has the database end a transaction after one second instead of ten.
func (s *Store) EndIdle() {
	lang := *s.lang
	lang.words = maps.Clone(lang.words)
	lang.words["idle"] = strings.ReplaceAll(lang.words["idle"], "10s", "1s")
	lang.begin = nil
	for _, statement := range s.lang.begin {
		lang.begin = append(lang.begin, strings.ReplaceAll(statement, "= 10 ", "= 1 "))
	}
	s.lang = &lang
}

// Hold calls f in the middle of a transaction.
func Hold(ctx context.Context, opened kv.Space, f func()) error {
	return opened.(*space).locked(ctx, func(context.Context, *txn) error {
		f()
		return kv.ErrRefused
	})
}

// EndAsExpired ends a lease as when it was found to have had its time.
func EndAsExpired(ctx context.Context, opened kv.Space, owner kv.Owner) error {
	return opened.(*space).locked(ctx, func(ctx context.Context, t *txn) error { return t.endExpired(ctx, owner) })
}

// Pause returns for how long a watch rests: if notifications are heard, and there is a
// lease that is due.
func (s *Store) Pause(hears, leases bool, due time.Duration) time.Duration {
	s.hears = hears
	return s.pause(head{leases: leases, due: due})
}

// ReadOnlyIs has the server say so when it is asked whether it is read-only.
func (s *Store) ReadOnlyIs(value string) {
	lang := *s.lang
	lang.words = maps.Clone(lang.words)
	for word, text := range lang.words {
		lang.words[word] = strings.ReplaceAll(text, "@@global.read_only", value)
	}
	s.lang = &lang
}
