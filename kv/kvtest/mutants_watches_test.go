package kvtest

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// oneByOne is a Next that returns each change by itself.
func oneByOne() func(ctx context.Context, w kv.Watch) (kv.Changes, error) {
	var rest kv.Changes
	return func(ctx context.Context, w kv.Watch) (kv.Changes, error) {
		if len(rest.Records) == 0 {
			var err error
			if rest, err = w.Next(ctx); err != nil {
				return rest, err
			}
		}
		one := kv.Changes{Mark: rest.Mark, Records: rest.Records[:1]}
		one.Mark.Revision = rest.Records[0].Version
		rest.Records = rest.Records[1:]
		return one, nil
	}
}

// watchMutants are what stores may get wrong in watches, and in ending calls.
var watchMutants = []mutant{
	{name: "a watch skips a change", claims: []string{"WatchReportsEachCommitOnceAndInOrder", "WatchOpenedBeforeAListMissesNothing"}, alter: func(a *altered) {
		var n atomic.Int64
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			changes.Records = slices.DeleteFunc(changes.Records, func(c kv.Change) bool { return c.Key != "last" && n.Add(1)%10 == 0 })
			return changes, err
		}
	}},
	{name: "a watch reports a change twice", claims: []string{"WatchReportsEachCommitOnceAndInOrder", "DeletionAndTheEndOfALeaseAreReported"}, alter: func(a *altered) {
		var mu sync.Mutex
		before := make(map[kv.Watch]kv.Changes)
		a.next = func(ctx context.Context, w kv.Watch, n int) (kv.Changes, error) {
			mu.Lock()
			defer mu.Unlock()
			if n%3 == 2 {
				return before[w], nil
			}
			mu.Unlock()
			changes, err := w.Next(ctx)
			mu.Lock()
			if n%3 == 1 {
				before[w] = changes
			}
			return changes, err
		}
	}},
	{name: "a watch reports the newest first", claims: []string{"WatchFromARevisionReportsAllAfterIt"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			slices.Reverse(changes.Records)
			return changes, err
		}
	}},
	{name: "a watch reports a commit in pieces", claims: []string{"RecordsGoWithTheirLeaseInOneCommit", "WatchReportsEachCommitOnceAndInOrder", "WatchOfAPrefixReportsNoOthers"}, alter: func(a *altered) {
		a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
			w, err := a.Space.Watch(ctx, prefix, after)
			if err != nil {
				return nil, err
			}
			next := oneByOne()
			return watchFunc{func(ctx context.Context) (kv.Changes, error) { return next(ctx, w) }, w.Close}, nil
		}
	}},
	{name: "a watch tells only the last write of a key", claims: []string{"WatchFromARevisionReportsAllAfterIt", "WatchThatNobodyReadsHoldsUpNobody"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			last := make(map[string]int64)
			for _, c := range changes.Records {
				last[c.Key] = c.Version
			}
			changes.Records = slices.DeleteFunc(changes.Records, func(c kv.Change) bool { return c.Version != last[c.Key] })
			return changes, err
		}
	}},
	{name: "a watch begins one revision early", claims: []string{"WatchFromARevisionReportsAllAfterIt"}, alter: func(a *altered) {
		a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
			return a.Space.Watch(ctx, prefix, max(after-1, 0))
		}
	}},
	{name: "a watch begins one revision late", claims: []string{"WatchFromARevisionReportsAllAfterIt"}, alter: func(a *altered) {
		a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
			w, err := a.Space.Watch(ctx, prefix, after)
			if err == nil && after > 0 {
				w.(*watch).seen++
			}
			return w, err
		}
	}},
	{name: "a watch begins when it is first read", claims: []string{"WatchOpenedBeforeAListMissesNothing", "MarkNamesOneStore"}, alter: func(a *altered) {
		a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
			var w kv.Watch
			return watchFunc{func(ctx context.Context) (kv.Changes, error) {
				if w == nil {
					var err error
					if w, err = a.Space.Watch(ctx, prefix, after); err != nil {
						return kv.Changes{}, err
					}
				}
				return w.Next(ctx)
			}, func() {}}, nil
		}
	}},
	{name: "deletions are not reported", claims: []string{"DeletionAndTheEndOfALeaseAreReported"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			changes.Records = slices.DeleteFunc(changes.Records, func(c kv.Change) bool { return c.Gone })
			return changes, err
		}
	}},
	{name: "the end of a lease is not reported", claims: []string{"DeletionAndTheEndOfALeaseAreReported", "RecordsGoWithTheirLeaseInOneCommit"}, alter: func(a *altered) {
		a.end = func(ctx context.Context, owner kv.Owner) error {
			err := a.Space.End(ctx, owner)
			a.inside(func(_ *Memory, c *contents) {
				if n := len(c.history); n > 0 && c.history[n-1].changes[0].Gone {
					c.history = c.history[:n-1]
				}
			})
			return err
		}
	}},
	{name: "a Next that is cancelled has taken a change", claims: []string{"CancelledNextLosesNothing"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			if err != nil && ctx.Err() != nil {
				moment, cancel := context.WithTimeout(context.Background(), 1)
				defer cancel()
				_, _ = w.Next(moment)
			}
			return changes, err
		}
	}},
	{name: "a watch is over once Next is cancelled", claims: []string{"CancelledNextLosesNothing", "CallsReturnSoonAfterTheirContextEnds"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			if err != nil {
				w.Close()
			}
			return changes, err
		}
	}},
	{name: "a watch keeps a hundred changes", claims: []string{"WatchThatNobodyReadsHoldsUpNobody"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			changes.Records = changes.Records[max(0, len(changes.Records)-100):]
			return changes, err
		}
	}},
	{name: "a watch goes on behind what it has missed", claims: []string{"WatchThatHasMissedSomethingSaysSo"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			if errors.Is(err, kv.ErrMissed) {
				a.inside(func(_ *Memory, c *contents) {
					w.(*watch).over, w.(*watch).seen = false, c.revision
				})
				return w.Next(ctx)
			}
			return changes, err
		}
	}},

	{name: "Next does not heed its context", claims: []string{"CallsReturnSoonAfterTheirContextEnds"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			return w.Next(context.WithoutCancel(ctx))
		}
	}},
	{name: "a List takes its time", claims: []string{"CallsReturnSoonAfterTheirContextEnds"}, alter: func(a *altered) {
		a.list = func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error) {
			time.Sleep(10 * time.Second)
			return listAll(ctx, a.Space, prefix)
		}
	}},
	{name: "a call that was given up is refused", claims: []string{"CallsReturnSoonAfterTheirContextEnds"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if err != nil {
				err = errors.Join(err, kv.ErrRefused)
			}
			return result, err
		}
	}},
	{name: "Close does nothing", claims: []string{"ClosingEndsCallsAndWatches"}, alter: func(a *altered) {
		a.close = func() error { return nil }
	}},
	{name: "Close of a watch does nothing", claims: []string{"ClosingEndsCallsAndWatches", "WatchThatNobodyReadsHoldsUpNobody"}, alter: func(a *altered) {
		a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
			w, err := a.Space.Watch(ctx, prefix, after)
			if err != nil {
				return nil, err
			}
			return watchFunc{w.Next, func() {}}, nil
		}
	}},
	{name: "one in ten commits is torn", claims: []string{"ManyUsersAtOnce"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			a.store.remember("commits", 0)
			if n := len(a.store.remembers("commits")); n%10 == 0 && len(tx.Put) > 1 {
				tx.Put = tx.Put[:1]
			}
			return a.Space.Commit(ctx, tx)
		}
	}},
}
