package kvtest

import (
	"context"
	"errors"

	"github.com/libcluster/libcluster/kv"
)

// goOn is each, but goes on after an error, and notes it.
func goOn(each func(kv.Record) error, failed *error) func(kv.Record) error {
	return func(r kv.Record) error {
		*failed = errors.Join(*failed, each(r))
		return nil
	}
}

// eachMutants are what stores may get wrong in handing records over.
var eachMutants = []mutant{
	{name: "a List hides an error of each", claims: []string{"ErrorOfEachEndsAListAndIsReturned"}, alter: func(a *altered) {
		a.lists = func(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) {
			var failed error
			mark, err := a.Space.List(ctx, prefix, func(r kv.Record) error {
				failed = each(r)
				return failed
			})
			if failed != nil {
				err = nil
			}
			return mark, err
		}
	}},
	{name: "a List goes on after an error of each", claims: []string{"ErrorOfEachEndsAListAndIsReturned"}, alter: func(a *altered) {
		a.lists = func(ctx context.Context, prefix string, each func(kv.Record) error) (kv.Mark, error) {
			var failed error
			mark, err := a.Space.List(ctx, prefix, goOn(each, &failed))
			return mark, errors.Join(err, failed)
		}
	}},
	{name: "a commit hands its own writes over once more", claims: []string{"CommitHandsOverEveryRecordOnce"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if err != nil || !result.Done || tx.Each == nil {
				return result, err
			}
			for _, r := range tx.Put {
				r.Version, r.Created = result.Mark.Revision, result.Mark.Revision
				err = errors.Join(err, tx.Each(r))
			}
			return result, err
		}
	}},
	{name: "a commit lists one page", claims: []string{"CommitHandsOverEveryRecordOnce"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			if each := tx.Each; each != nil {
				n := 0
				tx.Each = func(r kv.Record) error {
					if n++; n > 250 {
						return nil
					}
					return each(r)
				}
			}
			return a.Space.Commit(ctx, tx)
		}
	}},
	{name: "a commit hides an error of each", claims: []string{"ErrorOfEachLeavesTheWritesOfACommit"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if result.Done {
				err = nil
			}
			return result, err
		}
	}},
	{name: "a commit goes on to list after an error of each", claims: []string{"ErrorOfEachLeavesTheWritesOfACommit"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (result kv.Result, err error) {
			var failed error
			if tx.Each != nil {
				tx.Each = goOn(tx.Each, &failed)
			}
			result, err = a.Space.Commit(ctx, tx)
			return result, errors.Join(err, failed)
		}
	}},
	{name: "an error of each undoes the writes", claims: []string{"ErrorOfEachLeavesTheWritesOfACommit"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if result.Done && err != nil {
				a.inside(func(_ *Memory, c *contents) {
					c.history = c.history[:len(c.history)-1]
					for _, r := range tx.Put {
						delete(c.records, r.Key)
					}
				})
			}
			return result, err
		}
	}},
}
