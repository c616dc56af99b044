// Package libcluster tells every instance of an application, all the time,
// which range of cluster-wide worker indexes is its own and how many workers
// there are in all, so that it can divide its work without a queue, a scheduler
// or a master.
//
//	node1  2 workers   index 0      0 1
//	node2  1 worker    index 2          2
//	node3  4 workers   index 3            3 4 5 6      total 7
//
// # The model
//
// An application runs as several instances; each has some workers. What shares
// a key, an environment and a partition is a cluster. Every instance publishes
// itself as a member in a [Registry]: its ID and its number of workers. Members
// are put in an order, and each one's index is the sum of the workers before it.
// The result is a [State]: index, workers, total, and the generation, which
// numbers the set of members that it was computed from.
//
// How they come to their order is the cluster's [Mode], the same for all its
// instances. In mode [ModeDirect] they are ordered by ID, and each instance sorts for
// itself. In mode [ModePlanned] one plan gives places, which are sticky: a newcomer
// goes to the end, a hole is filled by the last, and nobody else moves. Mode
// [ModeExclusive] is that, and no two instances ever act on the same keys.
//
// [Static] takes index and total from configuration and coordinates nothing,
// [StaticFromEnv] from what a batch scheduler sets. [Etcd] is for instances that
// come and go.
//
// # Running work
//
// [Cluster.Run] joins, runs a function under each place that the instance is
// given, one after another, and leaves. [Cluster.RunWorkers] runs it once for each
// worker at the same time, with the worker's index; [Cluster.RunPrimary] only
// while the instance is the primary. The function is given a state and a context
// that ends with it:
//
//	err := cluster.RunWorkers(ctx, func(ctx context.Context, worker int, s libcluster.State) error {
//		for {
//			rows, err := db.QueryContext(ctx, "… WHERE id % ? = ?", s.Total, worker)
//			…
//		}
//	})
//
// Two runs never overlap in one instance, and a function that should be stopped is
// awaited before anything else happens, also before the record is removed on
// leaving. So an application can't go on with a place that it no longer has, but
// by not heeding its context.
//
// Whoever wants to act on changes instead sets [Config.OnRebalance] and calls
// [Cluster.Join], or asks for [Cluster.State] when it needs it.
//
// # Which worker owns a key
//
// [State.Owns] and [State.Worker] say which keys are this instance's, and [Slot]
// says it of any total: a function of [Cluster.RunWorkers] does what has
// Slot(key, s.Total) == worker. Use them instead of hash % total, with which nearly
// every key moves whenever the total changes; with these, only those that the new
// workers need. The function is the same in every release and simple to have in
// another language. [Cluster.OwnerOf] names the member that owns a key, also to a
// passive instance, which can so pass requests on. [State.Partitions] is for work
// in a fixed number of parts, and [State.Range] for contiguous ranges.
//
// # Is every index held
//
// [Cluster.Coverage] asks the registry whether every index is held by exactly one
// instance right now, by whom, and for whom it waits if not. When that has not been so
// for longer than [Config.CoverageTimeout], one instance logs it at Error.
//
// # Never two at once
//
// What has to be exclusive is keys, not indexes: an instance at 0 of 2 and one at 2
// of 3 both own key 2 by key % total. So in mode [ModeExclusive] no two instances act at
// the same time on overlapping ranges or on different totals. At a change every
// instance stops first: the function that [Cluster.Run] runs has returned, or the
// callback for index -1 has. Then it says so, and none starts in the new generation
// before all have. One that vanished is waited for until its deadline must have
// passed on any clock that runs at most a tenth faster or slower than it should;
// meanwhile the others work on. One that leaves is not waited for. Whoever only asks
// for [Cluster.State] is not waited for either: use Run or the callback.
//
// The price is that everybody pauses at each change, for as long as the slowest takes
// to stop. An instance that does not stop holds all others up, which is the point;
// [Cluster.Blockers] names it, as do the logs. After [Config.DrainTimeout] it loses its
// record, and the others go on when its deadline must have passed.
//
// One thing no library can do: stop a process between looking at its state and acting
// on it. For that gap there is the fencing token. It is [State.Generation], which in
// this mode grows with every plan, also in an etcd that was restored from a backup, as
// long as somebody who knew the newest is alive or the clocks are right. A resource
// that refuses a smaller one than it has seen is safe from whoever wakes up late; on
// the same etcd [Cluster.EtcdFence] does it.
//
// # Fencing in a database
//
// Each row holds the token of whoever wrote it last, 0 at first, in a column of 64
// bits. $token is the generation of the state under which the work was begun. Every
// write compares, in the statement that writes, so that any isolation level will do:
//
//	UPDATE account SET balance = $balance, fence = $token
//	WHERE id = $id AND fence <= $token
//
//	INSERT INTO account (id, balance, fence) VALUES ($id, $balance, $token)
//	ON CONFLICT (id) DO UPDATE SET balance = excluded.balance, fence = excluded.fence
//	WHERE account.fence <= excluded.fence
//
// If no row was affected, a later owner has been there: return from the function, and
// whatever comes next comes under a new state. But a row knows of a later owner only
// when that has written to it. Who decides by what it reads, or leaves some rows as
// they are, takes its rows first, and then reads:
//
//	UPDATE account SET fence = $token
//	WHERE id % $total >= $index AND id % $total < $index + $workers AND fence < $token
//
// From then on all that is late is refused. A row that is deleted takes its fence
// along, and one that was not there yet has none: instead of deleting a row that may
// be inserted late, mark it.
//
// Two instances that go on beside each other may hold different generations for a
// while. So a fence belongs to each row, or to whatever is divided, and not to the
// whole database.
//
// # What is guaranteed
//
//   - [Cluster.Join] returns after the first callback has returned, or with an
//     error, and then nothing is left running.
//   - Callbacks never run at the same time. A slow one holds up nobody else,
//     except in mode [ModeExclusive], where all wait for one that is to stop;
//     when it returns it is told the newest state, and those between are skipped.
//   - A callback comes only when the index, the workers or the total has changed,
//     or once more when an instance that was fenced already learns that its ID is
//     another one's.
//   - The generation of successive states only grows, unless the registry itself
//     goes back in time; see below.
//   - Instances that report the same generation computed their places from the
//     same members: their ranges tile [0, total) with no gap and no overlap.
//   - What [Cluster.Run] runs is a callback in all this: it has returned before
//     index -1 is reported, or another state.
//   - Leaving reports index -1, then removes the record, and the others are told
//     at once. It ends within a quarter of a second of its context's end, whatever
//     the registry does.
//   - A new worker count is published at once.
//   - After [Cluster.Leave] no goroutine, lease, key or connection is left. (With a
//     plan that stays, and in mode [ModeExclusive] for a TTL the word that the instance
//     has stopped, under the instance's lease.)
//   - An instance that cannot renew its record is fenced, which means that its
//     state reads as index -1, before the registry can give its place away. The
//     time is counted from when the last successful renewal was sent, never from
//     when it was answered, and [Cluster.State] looks at the clock. It rejoins by
//     itself.
//   - An instance whose ID another one has taken over is told so, and does not
//     fight for it.
//   - What is written below the cluster's key and is no member's record is logged
//     and ignored. A valid count counts, whoever wrote it.
//
// # What you may not assume
//
// Except in mode [ModeExclusive], instances learn of a change one after another, within
// milliseconds as a rule but with no bound. For that long two of them, in different
// generations, can hold the same index, or different totals. So treat an index as
// should-be unique: let whatever must not happen twice be refused by the resource
// itself, by a transaction or a unique key.
//
// Only in mode [ModeExclusive] is the generation a fencing token. In any, a process
// can be stopped between reading its state and acting on it.
//
// In mode [ModeDirect] a registry that goes back in time, such as an etcd that was
// restored from a backup, starts numbering its generations anew from there.
package libcluster
