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
// An application runs as several instances; each has some workers. Instances that
// share key, environment and partition name form a cluster. Every instance publishes
// itself as a member in a [Registry]: its ID and its number of workers. Members
// are put in an order, and each one's index is the sum of the workers before it.
// The result is a [State]: index, workers, total, and the generation, which
// numbers the set of members that it was computed from.
//
// The cluster's [Mode] says how the members get their order. It is the same for all
// instances of a cluster. In mode [ModeDirect] members are ordered by ID, and each
// instance sorts for itself. In mode [ModePlanned] one plan gives assignments, which are
// sticky: a newcomer goes to the end, the last member fills a hole, and no other member
// moves. Mode [ModeExclusive] does the same, and no two instances ever act on the same
// keys. In mode [ModeCooperative] a fixed number of partitions is divided instead of
// indexes: see below.
//
// Registries for instances that come and go are [Etcd] here, and packages peers, sqlstore,
// dirstore and gossip. [Static] takes index and total from configuration and coordinates
// nothing; [StaticFromEnv] takes them from what a batch scheduler sets.
//
// # Running work
//
// [Cluster.Run] joins, runs a function under each assignment that the instance gets,
// one after another, and leaves. [Cluster.RunWorkers] runs the function once for each
// worker at the same time, with the worker's index. [Cluster.RunPrimary] runs it only
// while the instance is the primary, and with the option [WithPrimary] another function runs
// beside the workers there. The function gets a state and a context that ends
// with that state:
//
//	err := cluster.RunWorkers(ctx, func(ctx context.Context, worker int, s libcluster.State) error {
//		for {
//			rows, err := db.QueryContext(ctx, "… WHERE id % ? = ?", s.Total, worker)
//			…
//		}
//	})
//
// Two runs never overlap in one instance. When a function has to stop, libcluster waits
// for it before it does anything else, also before it removes the record on leaving. So
// an application keeps working on a lost assignment only if it ignores its context.
//
// To act on changes instead, set [Config.OnRebalance] and call [Cluster.Join]. Or call
// [Cluster.State] whenever the state is needed.
//
// # The phases of an instance
//
// [Cluster.Phase] returns where an instance stands:
//
//	PhaseLeft
//	     |
//	     |  Join or Run is called
//	     v
//	PhaseJoining
//	     |
//	     |  the record is in the registry
//	     v         a committed plan names the instance
//	PhaseWaiting -----------------------------------------> PhaseActive
//	     |  ^    <-----------------------------------------     |
//	     |  |      all stop for the next plan, or               |
//	     |  |      a plan does not name the instance            |
//	     |  |                                                   |
//	     |  |  the instance has rejoined                        |
//	     v  |                                                   |
//	PhaseFenced <-----------------------------------------------+
//	               the deadline has passed, or the record is lost
//
//	any of these -----------------------> PhaseLeaving --------> PhaseLeft
//	         Leave is called, Run ends,            Leave is done
//	         or Join fails
//
// Only a member of a cluster with a plan waits for one. In mode [ModeDirect], and if it is
// passive, an instance goes straight to PhaseActive where the diagram has PhaseWaiting. In mode
// [ModeDirect] an instance waits while an operator drains it, see [Cluster.Drain].
// In mode [ModeCooperative] an instance that holds no partition waits, too.
// From PhaseWaiting an instance is fenced for the same reasons as from PhaseActive;
// [Cluster.Err] says for which. If another instance has taken its ID, a fenced instance
// rejoins only with [Config.ReclaimAfter].
//
// # Members see one another
//
// [Config.OnMembers] tells which members have come, gone or changed, and [Cluster.Primary]
// which one is the primary, with its address, version and metadata; in a mode with a plan
// version and metadata need [Config.WatchMembers]. [Cluster.SetMetadata] publishes something
// else at any time. [Config.OnPrimary] tells an instance that it has become the primary, or
// is it no longer. An instance leaves by itself if [Config.Superseded] or
// [Config.GiveUpAfter] say so.
//
// # Which worker owns a key
//
// [State.Owns] and [State.Worker] say which keys are this instance's. [Slot] says for
// any total which worker owns a key: a function of [Cluster.RunWorkers] handles the keys
// with Slot(key, s.Total) == worker. Use these instead of hash % total, which moves
// nearly every key whenever the total changes; Slot moves only the keys that the new
// workers need. It is the same function in every release, and easy to write in another
// language. [Cluster.OwnerOf] returns the member that owns a key, on a passive instance
// too, so that it can pass requests on. [State.Partitions] is for work in a fixed number
// of parts, and [State.Range] for contiguous ranges.
//
// # Is every index held
//
// [Cluster.Coverage] asks the registry whether every index is held by exactly one
// instance right now, and by which. If not, it says which instances the cluster waits
// for. If that lasts longer than [Config.CoverageTimeout], one instance logs it at Error.
//
// [Cluster.Stats] counts what happens to this instance, without asking anybody. Package
// metrics makes metrics for Prometheus of it.
//
// # Partitions
//
// In mode [ModeCooperative] the work has [Config.Partitions] partitions, and a key belongs to
// number Slot(key, n). Each instance holds some of them, in proportion to its workers, and
// a change moves as few as there can be. [Cluster.RunPartitions] runs a function for each:
//
//	err := cluster.RunPartitions(ctx, func(ctx context.Context, p libcluster.Partition) error {
//		for {
//			rows, err := db.QueryContext(ctx, "… WHERE partition = ?", p.Number)
//			…
//		}
//	})
//
// For each partition that moves, a plan names the instance that gives it up. That instance stops
// this partition alone, and acknowledges; the next plan grants the partition to another instance.
// So no two instances ever act on one partition. Instances that neither give nor get anything are
// not called, and go on through both plans. If an instance vanishes, only its own partitions wait
// until its deadline must have passed.
//
// In a [State] of this mode an index is the number of a partition. Total is how many
// there are, Index is the lowest that this instance holds, and the primary is the
// instance that holds partition 0. [State.Held], [State.Holds] and [State.Owns] say what is held.
//
// # Never two at once
//
// Exclusive means exclusive for keys, not for indexes: an instance at 0 of 2 and one at
// 2 of 3 both own key 2 by key % total. So in mode [ModeExclusive] no two instances act
// at the same time on overlapping ranges or on different totals. At a change every
// instance stops first: the function that [Cluster.Run] runs has returned, or the
// callback for index -1 has. Then the instance acknowledges; no instance starts in the
// new generation until all have acknowledged. If an instance vanishes, the others wait
// until its deadline must have passed on any clock that runs at most a tenth faster or
// slower than it should; meanwhile they keep working. They do not wait for an instance
// that leaves. Nor do they wait for an application that only calls [Cluster.State]: use
// Run or the callback.
//
// The price is that all instances pause at each change, for as long as the slowest takes
// to stop. An instance that does not stop holds up all others, and has to;
// [Cluster.Blockers] and the logs name it. After [Config.DrainTimeout] it loses its
// record, and the others go on when its deadline must have passed.
//
// One thing no library can do: stop a process between checking its state and acting on
// it. The fencing token closes that gap. It is [State.Generation], which in this mode
// grows with every plan. It also grows in an etcd that was restored from a backup, as
// long as an instance that knew the newest plan is alive or the clocks are right. A
// resource that rejects any token smaller than the largest it has seen is safe from
// processes that wake up late; on the same etcd [Cluster.EtcdFence] does it, and in the
// same SQL database [Cluster.StoreFence]. In mode [ModeCooperative] the token is [Partition.Token],
// which grows only when this partition is handed over, and [Cluster.EtcdPartitionFence] and
// [Cluster.PartitionFence] are the fences, which can be had until the partition is released.
//
// # Fencing in a database
//
// Each row holds the token of its last writer, 0 at first, in a column of 64 bits.
// $token is the generation of the state under which the work was begun, and in mode
// [ModeCooperative] the [Partition.Token] of the partition that the row belongs to. Every write
// compares the tokens, in the statement that writes, so that any isolation level will do:
//
//	UPDATE account SET balance = $balance, fence = $token
//	WHERE id = $id AND fence <= $token
//
//	INSERT INTO account (id, balance, fence) VALUES ($id, $balance, $token)
//	ON CONFLICT (id) DO UPDATE SET balance = excluded.balance, fence = excluded.fence
//	WHERE account.fence <= excluded.fence
//
// If no row was affected, a later owner has written the row: return from the function;
// it runs again under a new state. But a row knows of a later owner only when that owner
// has written to it. If your code decides from what it reads, or leaves some rows as they
// are, first stamp all its rows with the token, then read:
//
//	UPDATE account SET fence = $token
//	WHERE id % $total >= $index AND id % $total < $index + $workers AND fence < $token
//
// In mode [ModeCooperative] that is one partition's rows, of which each has the number of its
// partition, Slot(key, n), in a column of its own:
//
//	UPDATE account SET fence = $token
//	WHERE part = $part AND fence < $token
//
// From then on every late write is refused. A row that is deleted takes its fence along,
// and a row that was not there yet has none: instead of deleting a row that may be
// inserted late, mark it.
//
// Two instances that keep working beside each other may hold different generations for a
// while. So a fence belongs to each row, or to whatever is divided, and not to the
// whole database.
//
// # What is guaranteed
//
//   - [Cluster.Join] returns after the first callback has returned. If it returns an
//     error, nothing is left running.
//   - Callbacks never run at the same time. A slow callback holds up no other instance,
//     except in mode [ModeExclusive], where all wait for an instance that has to stop, and in
//     mode [ModeCooperative] for the partitions that it has to release.
//     When it returns, the next callback gets the newest state, and the states between
//     are skipped.
//   - A callback comes only when the index, the workers, the total or the partitions held have
//     changed, or once more when an instance that is already fenced learns that another instance
//     has its ID.
//   - The generation of successive states only grows, unless the registry itself
//     goes back in time; see below.
//   - Instances that report the same generation computed their assignments from the
//     same members: their ranges tile [0, total) with no gap and no overlap. In mode
//     [ModeCooperative] a partition that moves is nobody's between two plans.
//   - All this also holds for the function that [Cluster.Run] runs: it has returned
//     before index -1 is reported, or another state.
//   - On leaving, the callback gets index -1, then the record is removed, and the others
//     learn of it at once. [Cluster.Leave] returns within 250 ms after its context ends,
//     whatever the registry does.
//   - A new worker count is published at once.
//   - After [Cluster.Leave] no goroutine, lease, key or connection is left. (In a mode
//     with a plan the plan stays, and for one TTL the acknowledgement that the instance
//     has stopped, under the instance's lease.)
//   - An instance that cannot renew its record is fenced before the registry can give
//     its assignment away: its state reads as index -1. The time counts from when the
//     last successful renewal was sent, never from when it was answered, and
//     [Cluster.State] looks at the clock. The instance rejoins by itself.
//   - An instance whose ID another instance has taken over gets [ErrInstanceTaken], and
//     does not fight for the ID.
//   - Keys under the cluster's prefix that are not valid member records are logged and
//     ignored. Valid ones count, no matter who wrote them.
//
// # Registries of your own
//
// Applications can skip what only authors of registries need. For a store of your own that is
// [OnStore] and package kv. For anything else it is [Registry], [Capabilities], [Registration],
// [Membership], [Session], [Departure], [Change], [Event], [Range], [LastLook], [Permanent] and
// [ParseMember]; package registrytest has the suite. [Planner], [Planning], [Survey] and [Recorded]
// are what sessions on a store have besides.
//
// # What you may not assume
//
// In modes [ModeDirect] and [ModePlanned] instances learn of a change one after another, within
// milliseconds as a rule but with no bound. For that long two instances in different
// generations can hold the same index, or use different totals. So treat an index as
// should-be unique: let the resource itself refuse whatever must not happen twice, by a
// transaction or a unique key.
//
// Only in mode [ModeExclusive] is the generation a fencing token, and in mode [ModeCooperative]
// [Partition.Token] is one. In any mode, a process can be paused between reading its state and acting on it.
//
// In mode [ModeDirect] a registry that goes back in time, such as an etcd that was
// restored from a backup, starts numbering its generations anew from there.
package libcluster
