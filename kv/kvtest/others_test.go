package kvtest

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
)

// sparse is a store that is as right as Memory and does differently what package kv leaves
// open. Its revisions have gaps, as where all spaces count together. The mark of what is
// read is as late as it may be, and Next returns one commit at a time. A lease lives for whole
// seconds and ends a second late, and its owner may begin another one then.
var sparse = mutant{alter: func(a *altered) {
	const gap = 10
	late := func(mark kv.Mark) kv.Mark {
		return kv.Mark{Store: mark.Store, Revision: mark.Revision*gap + rand.Int64N(gap)}
	}
	as := func(r kv.Record) kv.Record {
		r.Version, r.Created = r.Version*gap, r.Created*gap
		return r
	}
	a.show(as)
	get, list, commit := a.get, a.list, a.commit
	a.get = func(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
		r, mark, err := get(ctx, key)
		return r, late(mark), err
	}
	a.list = func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error) {
		records, mark, err := list(ctx, prefix)
		return records, late(mark), err
	}
	a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
		conditions := make([]kv.Cond, len(tx.If))
		for i, c := range tx.If {
			if c.Version%gap == 0 {
				c.Version /= gap
			} else {
				c.Version = -1 // no version that there is
			}
			conditions[i] = c
		}
		writes := len(tx.Put)+len(tx.Delete) > 0
		tx.If = conditions
		result, err := commit(ctx, tx)
		if result.Done && writes {
			result.Mark.Revision *= gap
		} else {
			result.Mark = late(result.Mark)
		}
		return result, err
	}
	a.begin = func(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
		a.inside(func(_ *Memory, c *contents) {
			if _, err := c.living(owner); err != nil {
				delete(c.leases, owner)
			}
		})
		granted := (ttl + time.Second - 1).Truncate(time.Second)
		_, err := a.Space.Begin(ctx, owner, granted+time.Second)
		return granted, err
	}
	a.renew = func(ctx context.Context, owner kv.Owner) (time.Duration, error) {
		ttl, err := a.Space.Renew(ctx, owner)
		return ttl - time.Second, err
	}
	a.next = nil
	a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
		w, err := a.Space.Watch(ctx, prefix, after/gap)
		if err != nil {
			return nil, err
		}
		var rest kv.Changes
		return watchFunc{func(ctx context.Context) (kv.Changes, error) {
			if len(rest.Records) == 0 {
				if rest, err = w.Next(ctx); err != nil {
					return kv.Changes{}, err
				}
			}
			n := 1
			for n < len(rest.Records) && rest.Records[n].Version == rest.Records[0].Version {
				n++
			}
			one := kv.Changes{Mark: rest.Mark, Records: rest.Records[:n]}
			one.Mark.Revision = rest.Records[0].Version * gap
			rest.Records = rest.Records[n:]
			for i := range one.Records {
				one.Records[i].Record = as(one.Records[i].Record)
			}
			return one, nil
		}, w.Close}, nil
	}
}}

func TestClaimsAskForNoMoreThanIsPromised(t *testing.T) {
	t.Parallel()
	for _, c := range claims {
		require.Empty(t, try(t, c, sparse), c.name)
	}
}
