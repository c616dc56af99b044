package kvtest

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/libcluster/libcluster/kv"
)

// mutants are what stores may get wrong.
var mutants = []mutant{
	{name: "versions are not compared", claims: []string{"CommitChangesNothingIfOneConditionDoesNotHold", "OneOfManyCommitsOnOneVersionWins"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			tx.If = unless(tx.If, false)
			return a.Space.Commit(ctx, tx)
		}
	}},
	{name: "owners are not compared", claims: []string{"CommitChangesNothingIfOneConditionDoesNotHold"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			tx.If = unless(tx.If, true)
			return a.Space.Commit(ctx, tx)
		}
	}},
	{name: "versions are compared some time before the write", claims: []string{"OneOfManyCommitsOnOneVersionWins"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, kv.Tx{If: tx.If})
			if err != nil || !result.Done {
				return result, err
			}
			time.Sleep(1)
			tx.If = nil
			return a.Space.Commit(ctx, tx)
		}
	}},
	{name: "a commit fails if there is nothing to delete", claims: []string{"CommitIsCarriedOutIfAllConditionsHold"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			for _, key := range tx.Delete {
				if r, mark, err := a.Space.Get(ctx, key); err != nil || r.Version == 0 {
					return kv.Result{Mark: mark}, err
				}
			}
			return a.Space.Commit(ctx, tx)
		}
	}},
	{name: "a failed commit writes its first record", claims: []string{"CommitChangesNothingIfOneConditionDoesNotHold"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if err == nil && !result.Done && len(tx.Put) > 0 {
				_, err = a.Space.Commit(ctx, kv.Tx{Put: tx.Put[:1]})
			}
			return result, err
		}
	}},
	{name: "a failed commit tells only the records of conditions that do not hold", claims: []string{"FailedCommitTellsTheRecordsOfItsConditions"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if err == nil && !result.Done {
				var failed []kv.Record
				for i, r := range result.Records {
					if !tx.If[i].Holds(r) {
						failed = append(failed, r)
					}
				}
				result.Records = failed
			}
			return result, err
		}
	}},
	{name: "versions are those of a key", claims: []string{"VersionsGrowAndAreNeverUsedTwice"}, alter: func(a *altered) {
		number := func(r kv.Record) kv.Record {
			r.Version = int64(1 + slices.Index(a.store.remembers(r.Key), r.Version))
			r.Created = min(r.Version, 1)
			return r
		}
		a.show(number)
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			for _, r := range tx.Put {
				a.store.remember(r.Key, result.Mark.Revision)
			}
			if len(tx.Put) > 0 {
				result.Mark.Revision = int64(len(a.store.remembers(tx.Put[0].Key)))
			}
			return result, err
		}
	}},
	{name: "each record is written in a commit of its own", claims: []string{"VersionsGrowAndAreNeverUsedTwice", "ListIsOfOneInstant"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			rest := tx.Put
			for tx.Put = nil; len(rest) > 1; rest = rest[1:] {
				if result, err := a.Space.Commit(ctx, kv.Tx{If: tx.If, Put: rest[:1]}); err != nil || !result.Done {
					return result, err
				}
				tx.If = nil
				for range 20 {
					runtime.Gosched()
				}
			}
			tx.Put = rest
			return a.Space.Commit(ctx, tx)
		}
	}},
	{name: "Created is of the last write", claims: []string{"CreatedIsOfTheFirstWrite"}, alter: func(a *altered) {
		a.show(func(r kv.Record) kv.Record {
			r.Created = r.Version
			return r
		})
	}},
	{name: "a watch does not know when a record was created", claims: []string{"CreatedIsOfTheFirstWrite", "WatchReportsEachCommitOnceAndInOrder"}, alter: func(a *altered) {
		a.next = func(ctx context.Context, w kv.Watch, _ int) (kv.Changes, error) {
			changes, err := w.Next(ctx)
			for i := range changes.Records {
				changes.Records[i].Created = changes.Records[i].Version
			}
			return changes, err
		}
	}},
	{name: "a commit lists before it writes", claims: []string{"CommitThatListsShowsItsOwnWritesAndNothingLater"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			before, _, _ := listAll(ctx, a.Space, tx.Prefix)
			each := tx.Each
			tx.Each = nil
			result, err := a.Space.Commit(ctx, tx)
			if result.Done && each != nil {
				err = hand(before, each)
			}
			return result, err
		}
	}},
	{name: "a commit lists some time after it has written", claims: []string{"CommitThatListsShowsItsOwnWritesAndNothingLater"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			each := tx.Each
			tx.Each = nil
			result, err := a.Space.Commit(ctx, tx)
			if result.Done && each != nil {
				time.Sleep(1)
				_, err = a.Space.List(ctx, tx.Prefix, each)
			}
			return result, err
		}
	}},

	{name: "a user's reads are cached", claims: []string{"GetSeesWhatHasReturnedBefore", "NothingReadIsOfAnEarlierTime"}, alter: func(a *altered) {
		type read struct {
			r    kv.Record
			mark kv.Mark
		}
		cache := make(map[string]read)
		a.get = func(ctx context.Context, key string) (kv.Record, kv.Mark, error) {
			if was, ok := cache[key]; ok {
				return was.r, was.mark, nil
			}
			r, mark, err := a.Space.Get(ctx, key)
			cache[key] = read{r, mark}
			return r, mark, err
		}
	}},
	{name: "every other list is that before", claims: []string{"NothingReadIsOfAnEarlierTime", "GetSeesWhatHasReturnedBefore"}, alter: func(a *altered) {
		var n int
		var was []kv.Record
		var at kv.Mark
		a.list = func(ctx context.Context, prefix string) (records []kv.Record, mark kv.Mark, err error) {
			if n++; n%2 == 0 {
				return was, at, nil
			}
			was, at, err = listAll(ctx, a.Space, prefix)
			return was, at, err
		}
	}},
	{name: "a list is of two instants", claims: []string{"ListIsOfOneInstant"}, alter: func(a *altered) {
		a.list = func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error) {
			first, _, err := listAll(ctx, a.Space, prefix)
			if err != nil {
				return nil, kv.Mark{}, err
			}
			time.Sleep(1)
			second, mark, err := listAll(ctx, a.Space, prefix)
			records := slices.DeleteFunc(first, func(r kv.Record) bool { return r.Key > "m" })
			for _, r := range second {
				if r.Key > "m" {
					records = append(records, r)
				}
			}
			return records, mark, err
		}
	}},
	{name: "a prefix is a pattern", claims: []string{"ListIsOfItsPrefixInTheOrderOfKeys", "WatchOfAPrefixReportsNoOthers"}, alter: func(a *altered) {
		a.list = func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error) {
			records, mark, err := listAll(ctx, a.Space, "")
			return slices.DeleteFunc(records, func(r kv.Record) bool { return !like(prefix, r.Key) }), mark, err
		}
		a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
			w, err := a.Space.Watch(ctx, "", after)
			if err != nil {
				return nil, err
			}
			return watchFunc{func(ctx context.Context) (kv.Changes, error) {
				changes, err := w.Next(ctx)
				changes.Records = slices.DeleteFunc(changes.Records, func(c kv.Change) bool { return !like(prefix, c.Key) })
				return changes, err
			}, w.Close}, nil
		}
	}},
	{name: "a list is in the order of a dictionary", claims: []string{"ListIsOfItsPrefixInTheOrderOfKeys"}, alter: func(a *altered) {
		a.list = func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error) {
			records, mark, err := listAll(ctx, a.Space, prefix)
			slices.SortStableFunc(records, func(a, b kv.Record) int { return strings.Compare(strings.ToLower(a.Key), strings.ToLower(b.Key)) })
			return records, mark, err
		}
	}},
	{name: "keys have no case", claims: []string{"OddKeysAndValuesAreKeptApart"}, alter: func(a *altered) { a.keys(strings.ToLower) }},
	{name: "keys lose spaces behind", claims: []string{"OddKeysAndValuesAreKeptApart"}, alter: func(a *altered) {
		a.keys(func(key string) string { return strings.TrimRight(key, " ") })
	}},
	{name: "letters are composed", claims: []string{"OddKeysAndValuesAreKeptApart"}, alter: func(a *altered) {
		a.keys(func(key string) string { return strings.ReplaceAll(key, "e\u0301", "é") })
	}},
	{name: "spaces lose a slash behind", claims: []string{"SpacesAreKeptApart"}, space: func(name string) string { return strings.TrimRight(name, "/") }},
	{name: "spaces have no case", claims: []string{"SpacesAreKeptApart"}, space: strings.ToUpper},
	{name: "a space is not listed", claims: []string{"SpacesWithLeasesAreListed"}, spaces: func(names []string) ([]string, error) { return names[:max(0, len(names)-1)], nil }},
	{name: "a space is listed twice", claims: []string{"SpacesWithLeasesAreListed"}, spaces: func(names []string) ([]string, error) { return append(names, names...), nil }},
	{name: "spaces cannot be listed", claims: []string{"SpacesWithLeasesAreListed"}, spaces: func([]string) ([]string, error) { return nil, io.EOF }},
	{name: "the names of spaces are cut", claims: []string{"SpacesAreKeptApart"}, space: func(name string) string { return name[:min(len(name), 255)] }},
	{name: "a mark names a connection", claims: []string{"MarkNamesOneStore"}, alter: func(a *altered) {
		name := rand.Text()
		a.list = func(ctx context.Context, prefix string) ([]kv.Record, kv.Mark, error) {
			records, mark, err := listAll(ctx, a.Space, prefix)
			mark.Store = name
			return records, mark, err
		}
	}},

	{name: "less is granted than was asked for", claims: []string{"LeaseIsGrantedForWhatIsAskedOrMore"}, alter: func(a *altered) {
		a.begin = func(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
			return a.Space.Begin(ctx, owner, ttl/2)
		}
	}},
	{name: "a lease ends when half of its time has passed", claims: []string{"LeaseThatIsNotRenewedEnds", "ClosedSpaceLeavesItsLeases"}, alter: func(a *altered) {
		a.begin = func(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
			_, err := a.Space.Begin(ctx, owner, ttl/2)
			return ttl, err
		}
		a.renew = func(ctx context.Context, owner kv.Owner) (time.Duration, error) {
			half, err := a.Space.Renew(ctx, owner)
			return 2 * half, err
		}
	}},
	{name: "a lease ends when somebody calls", claims: []string{"LeaseThatIsNotRenewedEnds"}, alter: func(a *altered) {
		a.watch = func(ctx context.Context, prefix string, after int64) (kv.Watch, error) {
			a.inside(func(m *Memory, _ *contents) {
				if m.alarm != nil {
					m.alarm.Stop()
				}
			})
			return a.Space.Watch(ctx, prefix, after)
		}
	}},
	{name: "a lease never ends by itself", claims: []string{"LeaseThatIsNotRenewedEnds", "LeaseThatHasRunOutNeverLivesAgain"}, alter: func(a *altered) {
		a.begin = func(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
			_, err := a.Space.Begin(ctx, owner, 1e6*time.Hour)
			return ttl, err
		}
	}},
	{name: "Renew does nothing", claims: []string{"RenewedLeaseLives"}, alter: func(a *altered) {
		a.renew = func(ctx context.Context, owner kv.Owner) (ttl time.Duration, err error) {
			a.inside(func(_ *Memory, c *contents) {
				l, ended := c.living(owner)
				if err = ended; ended == nil {
					ttl = l.ttl
				}
			})
			return ttl, err
		}
	}},
	{name: "Renew gives half the time", claims: []string{"RenewedLeaseLives"}, alter: func(a *altered) {
		a.renew = func(ctx context.Context, owner kv.Owner) (time.Duration, error) {
			ttl, err := a.Space.Renew(ctx, owner)
			a.inside(func(m *Memory, c *contents) {
				l, ended := c.living(owner)
				if ended == nil {
					m.unqueue(l)
					l.ttl /= 2
					m.enqueue(l)
					l.ttl = ttl
				}
			})
			return ttl, err
		}
	}},
	{name: "Renew revives a lease that has ended", claims: []string{"EndedLeaseNeverLivesAgain", "LeaseThatHasRunOutNeverLivesAgain"}, alter: func(a *altered) {
		a.renew = func(ctx context.Context, owner kv.Owner) (time.Duration, error) {
			a.inside(func(m *Memory, c *contents) {
				if l := c.leases[owner]; l != nil && l.ended {
					l.ended = false
					m.enqueue(l)
				}
			})
			return a.Space.Renew(ctx, owner)
		}
	}},
	{name: "an owner that has a lease may begin it", claims: []string{"BeginOfALivingOwnerIsRefused"}, alter: func(a *altered) {
		a.begin = func(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
			granted, err := a.Space.Begin(ctx, owner, ttl)
			if errors.Is(err, kv.ErrRefused) {
				return a.Space.Renew(ctx, owner)
			}
			return granted, err
		}
	}},
	{name: "End leaves a record", claims: []string{"RecordsGoWithTheirLeaseInOneCommit"}, alter: func(a *altered) {
		a.end = func(ctx context.Context, owner kv.Owner) error {
			a.inside(func(_ *Memory, c *contents) {
				for _, r := range c.list("") {
					if r.Owner == owner {
						r.Owner = 0
						c.records[r.Key] = r
						return
					}
				}
			})
			return a.Space.End(ctx, owner)
		}
	}},
	{name: "End deletes one record after the other", claims: []string{"RecordsGoWithTheirLeaseInOneCommit"}, alter: func(a *altered) {
		a.end = func(ctx context.Context, owner kv.Owner) error {
			a.inside(func(_ *Memory, c *contents) {
				for _, r := range c.list("") {
					if r.Owner == owner {
						c.write(nil, []string{r.Key})
					}
				}
			})
			return a.Space.End(ctx, owner)
		}
	}},
	{name: "End deletes what there was some time before", claims: []string{"NothingIsLeftOfALeaseThatEndsMeanwhile"}, alter: func(a *altered) {
		a.end = func(ctx context.Context, owner kv.Owner) error {
			before, _, err := listAll(ctx, a.Space, "")
			if err != nil {
				return err
			}
			time.Sleep(1)
			a.inside(func(_ *Memory, c *contents) {
				for key, r := range c.records {
					if r.Owner == owner && find(before, key).Version == 0 {
						r.Owner = 0
						c.records[key] = r
					}
				}
			})
			return a.Space.End(ctx, owner)
		}
	}},
	{name: "a lease that has ended is none", claims: []string{"PutUnderAnEndedLeaseDoesNothing", "EndedLeaseNeverLivesAgain"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if !ended(err) {
				return result, err
			}
			tx.Put = slices.Clone(tx.Put)
			for i := range tx.Put {
				tx.Put[i].Owner = 0
			}
			return a.Space.Commit(ctx, tx)
		}
	}},
	{name: "a put under a lease that has ended is left out", claims: []string{"PutUnderAnEndedLeaseDoesNothing"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			result, err := a.Space.Commit(ctx, tx)
			if ended(err) {
				_, _ = a.Space.Commit(ctx, kv.Tx{If: tx.If, Delete: tx.Delete})
			}
			return result, err
		}
	}},
	{name: "a record is under every lease that it has been under", claims: []string{"RecordMovedToAnotherLeaseOutlivesTheFirst"}, alter: func(a *altered) {
		a.commit = func(ctx context.Context, tx kv.Tx) (kv.Result, error) {
			for _, r := range tx.Put {
				a.store.remember(r.Key, int64(r.Owner))
			}
			return a.Space.Commit(ctx, tx)
		}
		a.end = func(ctx context.Context, owner kv.Owner) error {
			a.inside(func(_ *Memory, c *contents) {
				for _, r := range c.list("") {
					if slices.Contains(a.store.remembers(r.Key), int64(owner)) {
						c.write(nil, []string{r.Key})
					}
				}
			})
			return a.Space.End(ctx, owner)
		}
	}},
	{name: "a record without a lease goes with its user", claims: []string{"RecordWithoutLeaseStays"}, alter: func(a *altered) {
		a.close = func() error {
			a.inside(func(_ *Memory, c *contents) {
				for _, r := range c.list("") {
					if r.Owner == 0 {
						c.write(nil, []string{r.Key})
					}
				}
			})
			return a.Space.Close()
		}
	}},
	{name: "a lease ends with its user", claims: []string{"ClosedSpaceLeavesItsLeases", "ClosingEndsCallsAndWatches"}, alter: func(a *altered) {
		var owners []kv.Owner
		a.begin = func(ctx context.Context, owner kv.Owner, ttl time.Duration) (time.Duration, error) {
			a.inside(func(*Memory, *contents) { owners = append(owners, owner) })
			return a.Space.Begin(ctx, owner, ttl)
		}
		a.close = func() error {
			a.inside(func(m *Memory, c *contents) {
				for _, owner := range owners {
					if l, err := c.living(owner); err == nil {
						m.end(l)
					}
				}
			})
			return a.Space.Close()
		}
	}},
}
