package main

const waited = `		waiting = append(waiting, l)
`

const untilOver = `return window*vanishedPercent/100 + vanishedSlack`

const stopped = `if !p.awaitStopped() {`

// mutants are the mistakes. What keeps two instances apart has the most of them.
var mutants = []mutant{
	{
		"nobody's acknowledgement is waited for", "decide.go",
		waited, "\t\tif !present[l.incarnation] {\n\t" + waited + "\t\t}\n",
		"TestNeverTwoAtOnceWhateverHappens", "",
		[]string{"-exclusive-seeds=50"},
	},
	{
		"nobody who vanished is waited for", "decide.go",
		untilOver, "return window * 0",
		"TestNeverTwoAtOnceWhateverHappens", "",
		[]string{"-exclusive-seeds=300"},
	},
	{
		"nobody's acknowledgement is waited for", "decide.go",
		waited, "\t\tif !present[l.incarnation] {\n\t" + waited + "\t\t}\n",
		"TestEveryOrderOfEventsKeepsTwoApart", "",
		[]string{"-most-plans=3"},
	},
	{
		"nobody who vanished is waited for", "decide.go",
		untilOver, "return window * 0",
		"TestEveryOrderOfEventsKeepsTwoApart", "",
		[]string{"-most-plans=3"},
	},
	{
		"the deadline counts from the answer", "heartbeat.go",
		"return answer{sent, ttl, err}", "return answer{inc.clock(), ttl, err}",
		"TestTheDeadlineCountsFromTheSendingOfARenewal", "", nil,
	},
	{
		"an extension does not see that it was closed", "fence.go",
		"\t\tf.line.CompareAndSwap(d, f.renewed(sent, ttl))\n", "\t\tf.line.Store(f.renewed(sent, ttl))\n",
		"TestAFenceThatIsClosedWhileItIsExtendedStaysClosed", "", nil,
	},
	{
		"a late success revives", "fence.go",
		"\tif f.fenced() == nil && sent.since(d.sent) > 0 {\n\t\t// Fails if a reader has found the deadline passed since it was loaded.\n\t\tf.line.CompareAndSwap(d, f.renewed(sent, ttl))\n\t}\n",
		"\tf.line.Store(f.renewed(sent, ttl))\n\t_ = d\n",
		"TestALateSuccessOpensNoFenceThatWasFoundClosed", "", nil,
	},
	{
		"half the wait, by clocks 10 % apart", "decide.go",
		"window*vanishedPercent/100", "window*62/100",
		"TestOneWhoVanishedIsWaitedForByClocksThatDiffer", "", nil,
	},
	{
		"no allowance for clocks that differ", "decide.go",
		"window*vanishedPercent/100", "window*100/100",
		"TestOneWhoVanishedIsWaitedForByClocksThatDiffer", "", nil,
	},
	{
		"an instance rejoins before it has stopped", "ping.go",
		stopped, "if false {",
		"TestNeverTwoAtOnceWhateverHappens", "",
		[]string{"-exclusive-seeds=50"},
	},
	{
		"an instance counts itself as before itself", "index.go",
		"if id < x.self {", "if id <= x.self {",
		"TestPromisesHoldWhateverHappens", "simulation",
		[]string{"-seeds=20"},
	},
	{
		"a record that has gone goes on counting", "index.go",
		"\tdelete(x.members, id)\n", "",
		"TestPromisesHoldWhateverHappens", "simulation",
		[]string{"-seeds=20"},
	},
	{
		"an instance without a record coordinates", "coordinator.go",
		`return fmt.Errorf("%w: it was not there when this instance was to coordinate", ErrRecordGone)`, "return nil",
		"TestOneWhoseRecordHasGoneDoesNotCoordinate", "", nil,
	},
	{
		"a plan is swapped without coordinating", "store_plan.go",
		"{s.ours(), kv.OwnedBy(coordinatorKey, s.owner), kv.AtVersion(planKey, revision)}", "{s.ours(), s.ours(), kv.AtVersion(planKey, revision)}",
		"TestAnyStoreKeepsThePromisesInVirtualTime", "registrytest", nil,
	},
	{
		"a plan is swapped for another than the one that was read", "store_plan.go",
		"{s.ours(), kv.OwnedBy(coordinatorKey, s.owner), kv.AtVersion(planKey, revision)}", "{s.ours(), kv.OwnedBy(coordinatorKey, s.owner)}",
		"TestAnyStoreKeepsThePromisesInVirtualTime", "registrytest", nil,
	},
	{
		"an acknowledgement is for whatever plan there is", "store_plan.go",
		"kv.AtVersion(planKey, revision), kv.AtVersion(note.Key, last.Version)}", "s.ours(), kv.AtVersion(note.Key, last.Version)}",
		"TestAnyStoreKeepsThePromisesInVirtualTime", "registrytest", nil,
	},
	{
		"a late request to join replaces what is there by now", "store_join.go",
		"{kv.AtVersion(s.id, found.Version)}", "{}",
		"TestAttemptThatArrivesLateSaysNothingOfALaterOne", "libclustertest", nil,
	},
	{
		"a record is written that is another's by now", "store_session.go",
		"kv.Tx{If: []kv.Cond{s.ours(), kv.AtVersion(s.id, was)}, Put: records}", "kv.Tx{Put: records}\n\t\t\t_ = was",
		"TestAnyStoreKeepsThePromisesInVirtualTime", "registrytest", nil,
	},
	{
		"a record that is overwritten under its lease is believed", "store_session.go",
		"s.proven.Load() == found.Version", "s.proven.Load() != 0",
		"TestRecordThatIsOverwrittenUnderItsLeaseIsFoundByTheNextHeartbeat", "", nil,
	},
	{
		"a late request to update undoes a later one", "store_session.go",
		"kv.Tx{If: []kv.Cond{s.ours(), kv.AtVersion(s.id, was)}, Put: records}", "kv.Tx{If: []kv.Cond{s.ours(), s.ours()}, Put: records}\n\t\t\t_ = was",
		"TestAnOlderUpdateThatArrivesLateHasNoEffect", "", nil,
	},
	{
		"a plan of another mode is built on", "decide.go",
		`foreign := base == nil && len(s.Plan) > 0 || base != nil && base.scheme() != d.scheme`, "foreign := false",
		"TestAPlanOfAnotherModeIsNotBuiltOn", "", nil,
	},
	{
		"a place is given anew while somebody may act on it", "stall.go",
		"!acts[l.incarnation] && ", "",
		"TestEveryOrderOfEventsKeepsTwoApart", "",
		[]string{"-most-plans=3"},
	},
	{
		"a place is given anew while somebody may act on it", "stall.go",
		"!acts[l.incarnation] && ", "",
		"TestNeverTwoAtOnceWhateverHappens", "",
		[]string{"-exclusive-seeds=300"},
	},
	{
		"newcomers are let in while old places are given anew", "stall.go",
		"	case len(dead) > 0 && !late && base.saysWhere() && s.anyWorks(base, dead):\n		return decision{next: same, waiting: dead}\n",
		"	case len(dead) > 0 && !late && base.saysWhere() && s.anyWorks(base, dead):\n		return decision{next: next}\n",
		"TestEveryOrderOfEventsKeepsTwoApart", "",
		[]string{"-most-plans=3"},
	},
	{
		"places are given anew though nobody knows who acts where", "stall.go",
		" && base.saysWhere()", "",
		"TestAfterTheRegistryHasGoneBackSomebodyUnknownIsWaitedFor", "", nil,
	},
	{
		"nobody says that it is slow to stop", "drain.go",
		"			d.slowFor.Store(p.generation)\n", "",
		"TestOneThatTakesLongToStopIsNotTakenForDead", "", nil,
	},
	{
		"one that leaves counts as one that has crashed", "engine.go",
		"		d.Stopped = true // nobody", "		// nobody",
		"TestOneThatLeavesIsHeldAgainstNobody", "", nil,
	},
	{
		"newcomers never have to wait", "damping.go",
		"d.level, d.lost = d.level+1, 0", "d.lost = 0",
		"TestOneInACrashLoopDoesNotStarveTheOthers", "", nil,
	},
	{
		"newcomers wait no longer each time", "damping.go",
		"if d.level > 0 || d.lost > byChance {", "if d.level == 0 && d.lost > byChance {",
		"TestNewcomersWaitLongerEachTime", "", nil,
	},
	{
		"a partition is granted before it is released", "cooperate.go",
		"	case p.generation:\n", "	default:\n",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=50"},
	},
	{
		"a partition is granted before it is released", "cooperate.go",
		"if own, acts := lines[members[granted[n]].Incarnation]; !acts || own != only {", "if _, acts := lines[\"\"]; acts {",
		"TestEveryOrderOfEventsKeepsTwoOffOnePartition", "",
		[]string{"-most-plans=3"},
	},
	{
		"a partition of one that vanished is granted at once", "cooperate.go",
		"			if left > 0 {\n", "			if left < 0 {\n",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=50"},
	},
	{
		"a partition of one that vanished is granted at once", "cooperate.go",
		"			if left > 0 {\n", "			if left < 0 {\n",
		"TestEveryOrderOfEventsKeepsTwoOffOnePartition", "",
		[]string{"-most-plans=3"},
	},
	{
		"a partition counts as released while its function runs", "notifier.go",
		"n.told.state.held.partitions().or(n.run.running()).and(v.plan.releases)", "n.told.state.held.partitions().and(v.plan.releases)",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=50"},
	},
	{
		"partition 0 counts as released while the task of the primary runs", "runner.go",
		"	if r.leading() {\n", "	if false && r.leading() {\n",
		"TestTaskOfThePrimaryHoldsUpItsPartitionAlone", "", nil,
	},
	{
		"one that leaves gives nothing away before all has stopped", "engine.go",
		"		e.lingers.Store(true)\n", "",
		"TestOneThatLeavesGivesAwayEachPartitionThatHasStopped", "", nil,
	},
	{
		"a partition counts as released before OnRebalance has been told", "notifier.go",
		"	case n.behind:", "	case false && n.behind:",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-first=400040", "-cooperative-seeds=40"},
	},
	{
		"the task of the primary goes on when partition 0 is granted anew", "runner.go",
		" && state.holdsAs(t.told, 0)", "",
		"TestATaskOfThePrimaryEndsWhenPartitionNoughtIsGrantedAnew", "", nil,
	},
	{
		"one that rejoins replaces an instance of another mode", "store_join.go",
		"return found, s.fits(found)", "return found, nil",
		"TestOneWhoRejoinsARestoredStoreReplacesNobodyOfAnotherMode", "", nil,
	},
	{
		"a token stays when a partition is handed over", "holding.go",
		"grants = append(grants, grant{r, generation})", "grants = append(grants, grant{r, 1})",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=20"},
	},
	{
		"a token stays when a partition is handed over", "holding.go",
		"grants = append(grants, grant{r, generation})", "grants = append(grants, grant{r, 1})",
		"TestAPartitionKeepsItsTokenWhileItIsHeld", "", nil,
	},
	{
		"a grant is taken after a newer plan", "planned_view.go",
		"	case known != nil && p.generation < known.generation:\n		h.late = true\n", "",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=300"},
	},
	{
		"an acknowledgement of an older plan counts", "cooperate.go",
		"	case p.generation:\n", "	case p.generation, p.generation - 1:\n",
		"TestAPlanGrantsNothingThatAnotherMayActOn", "", nil,
	},
	{
		"an acknowledgement counts for what it leaves out", "cooperate.go",
		"			return l.releases.and(remaining)\n", "			_ = remaining\n			return nil\n",
		"TestEveryOrderOfEventsKeepsTwoOffOnePartition", "",
		[]string{"-most-plans=3"},
	},
	{
		"all is released though most of it is kept", "cooperate.go",
		"balancePartitions(base.ownersAmong(members), weightsOf(members))", "balancePartitions(base.ownersAmong(nil), weightsOf(members))",
		"TestAChangeComesToRestWithTheFewestStops", "", nil,
	},
	{
		"a partition is stopped for a plan that moves others", "run_partitions.go",
		"held && token == t.token && v.inc == t.inc {", "held && token == t.token && v.inc == t.inc && state.Generation == t.told.Generation {",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=20"},
	},
	{
		"a partition gets another token when others move", "holding.go",
		"grants := h.grantsOf(set)\n", "grants := h.grantsOf(set)\n	for i := range grants {\n		grants[i].token = generation\n	}\n",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=20"},
	},
	{
		"a fence is given for what has been acknowledged", "plan_view.go",
		"return p.outgoing.less(p.releases.minus(remaining))", "return p.outgoing.less(p.releases.minus(remaining).minus(p.releases))",
		"TestOfWhatAPlanTakesOnlyThatHasAFenceWhichHasNotStopped", "", nil,
	},
	{
		"a fence is given for what has been acknowledged", "plan_view.go",
		"return p.outgoing.less(p.releases.minus(remaining))", "return p.outgoing.less(p.releases.minus(remaining).minus(p.releases))",
		"TestNeverTwoOnOnePartitionWhateverHappens", "",
		[]string{"-cooperative-seeds=20"},
	},
	{
		"a fence is given for what an earlier plan has released", "planned_view.go",
		"before.plan.unsaid(said)", "before.plan.outgoing",
		"TestWhatIsGrantedAnewHasAFenceByItsNewTokenOnly", "", nil,
	},
	{
		"what is to be granted outlives the fence in another callback", "notifier.go",
		"	case t.state.held.loses(state.held) && state.held.loses(t.state.held):\n", "	case false:\n",
		"TestNothingIsGrantedThatHasGoneDuringAnotherCallback", "", nil,
	},
	{
		"a late acknowledgement takes back a later one", "store_plan.go",
		"kv.AtVersion(planKey, revision), kv.AtVersion(note.Key, last.Version)}", "kv.AtVersion(planKey, revision), s.ours()}",
		"TestAnOlderAcknowledgementThatArrivesLateTakesNothingBack", "", nil,
	},
	{
		"a drain forgets what hangs when more is to be released", "drain.go",
		"if slices.Equal(releases, asked) {", "if _ = slices.Equal(releases, asked); len(releases) == len(asked) {",
		"TestADrainGoesOnWatchingWhatTheNextPlanAsksForToo", "", nil,
	},
	{
		"a draining member is given a place", "decide.go",
		"return !serves(m) })", "return false && !serves(m) })",
		"TestAnInstanceThatAnOperatorDrainsHoldsNothingUntilItIsUndrained", "", nil,
	},
	{
		"a drained instance joins in mode direct", "store_join.go",
		"kv.AtVersion(drainingKeys+s.id, 0)", "kv.AtVersion(planKey, 0)",
		"TestADrainedInstanceOfModeDirectDoesNotJoin", "", nil,
	},
	{
		"one that hears only half of the rest accuses", "heartbeats/circle.go",
		"2*steady > rest", "2*steady >= rest",
		"TestWhoIsSilentIsAccusedByWhoHearsMostOfTheRest", "heartbeats", nil,
	},
	{
		"an accusation by one ends a lease", "heartbeats/circle.go",
		"2*votes > len(c.others)", "votes > 0",
		"TestMostOfTheOthersHaveToAccuse", "heartbeats", nil,
	},
	{
		"one that is silent is put out though nobody accuses it", "heartbeats/circle.go",
		"2*votes > len(c.others)", "votes >= 0 && !o.heard.IsZero() && !c.hears(o, now)",
		"TestPrimaryStaysWhenHeartbeatsFailForAll", "heartbeats", nil,
	},
	{
		"a worker has stopped before its command has ended", "cmd/libcluster/command.go",
		"	g.lead(ctx, order{Start: append([]string{x.path}, x.args...), Signal: syscall.Signal(x.signal), Grace: x.grace})\n	return g.result(name)\n",
		"	go g.lead(ctx, order{Start: append([]string{x.path}, x.args...), Signal: syscall.Signal(x.signal), Grace: x.grace})\n" +
			"	select {\n	case <-ctx.Done():\n		return nil\n	case <-g.ended:\n	}\n	return g.result(name)\n",
		"TestGraceMayBeLongerThanTheTimeToTheDeadline", "cmd/libcluster", nil,
	},
	{
		"a guard starts a command after the deadline", "cmd/libcluster/guard.go",
		"!g.stopping && !g.passed()", "!g.stopping",
		"TestGuardStartsNothingAfterTheDeadlineAndWaitsForALaterOne", "cmd/libcluster", nil,
	},
	{
		"a command that was ended at the deadline has failed", "cmd/libcluster/guard.go",
		"				g.ordered = true\n				g.kill()", "				g.kill()",
		"TestGuardThatHearsNothingEndsTheCommandAtTheDeadlineAndSaysSo", "cmd/libcluster", nil,
	},
	{
		"only a guard that a signal has killed has crashed", "cmd/libcluster/command.go",
		"		g.crashed = n == 0\n", "		g.crashed = n == 0 && g.cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled()\n",
		"TestCrashedGuardLeavesNothingBehind", "cmd/libcluster", nil,
	},
	{
		"a swap does not look whether its predecessor was removed", "dirstore/swap.go",
		"there, err := f.there(d)", "there, err := true, error(nil)",
		"TestSleeperThatLinksARemovedNumberHasNotSwapped", "dirstore", nil,
	},
	{
		"a folder compares nothing", "dirstore/document.go",
		"holds = holds && c.Holds(found[i])", "_ = c",
		"TestDocumentDoesWhatASpaceInMemoryDoes", "dirstore", nil,
	},
	{
		"a renewal revives a lease of a folder", "dirstore/document.go",
		"return nil, kv.ErrEnded", "l.TTL = time.Second",
		"TestWhatIsDoubtedEndsUnlessItIsRenewed", "dirstore", nil,
	},
	{
		"the clock of the file system ends a lease", "dirstore/lease.go",
		"\tquiet, lives = f.observed.saw(owner, sign, began, time.Now())\n",
		"\tquiet, lives = f.observed.saw(owner, sign, began, time.Now())\n\tif written, err := f.files.modified(f.heartbeat(owner)); err == nil {\n\t\tquiet = time.Since(written)\n\t}\n",
		"TestNoClockButTheObserversEndsALease", "dirstore", nil,
	},
	{
		"a database compares nothing", "sqlstore/commit.go",
		"!c.Holds(records[i])", "false && !c.Holds(records[i])",
		"TestSQLiteIsAStore/CommitChangesNothingIfOneConditionDoesNotHold", "sqlstore", nil,
	},
	{
		"a renewal revives a lease of a database", "sqlstore/lease.go",
		"\t\tsp.forget(owner)\n\t\treturn 0, kv.ErrEnded\n", "\t\treturn time.Second, sp.begin(ctx, owner, 1e6)\n",
		"TestSQLiteIsAStore/EndedLeaseNeverLivesAgain", "sqlstore", nil,
	},
	{
		"a lease of a database ends though it was renewed", "sqlstore/lease.go",
		"t.end(ctx, owner, `expires <= {now}`)", "t.end(ctx, owner, `TRUE`)",
		"TestLeaseThatWasRenewedMeanwhileIsNotEnded", "sqlstore", nil,
	},
	{
		"the client's clock ends a lease of a database", "sqlstore/lease.go",
		"SELECT ?, ?, {now} + ?, ? FROM {store} WHERE {writes}`,\n\t\t\tsp.name, int64(owner), micros+grain, micros)",
		"SELECT ?, ?, ?, ? FROM {store} WHERE {writes}`,\n\t\t\tsp.name, int64(owner), time.Now().UnixMicro()+micros+grain, micros)",
		"TestNoClockButTheDatabasesEndsALease", "sqlstore", nil,
	},
	{
		"of two nodes the earlier one has the ID", "gossip/records.go",
		"e.Since > other.Since", "e.Since < other.Since",
		"TestRecordsAreWhatTheLatestEntriesSay", "gossip", nil,
	},
	{
		"one instance vouches twice", "gossip/tell.go",
		"ids[e.ID] = true", "ids[name] = true",
		"TestVouchersAreInstancesAndNotNodes", "gossip", nil,
	},
	{
		"peers that begin anew are the cluster of before", "peers/lots.go",
		"fmt.Fprintln(sum, address, l[address])", "fmt.Fprintln(sum, address)",
		"TestPeersFormOneCluster", "peers", nil,
	},
	{
		"data that was never served counts for nothing", "peers/form.go",
		"begun = append(begun, address)", "all[address] = w.Lots[address]",
		"TestPeersFormOneCluster", "peers",
		[]string{"-rapid.checks=10000"},
	},
	{
		"a peer that has lost its folder makes the same cluster again", "peers/form.go",
		"|| form[own] != lot", "",
		"TestPeersFormOneCluster", "peers",
		[]string{"-rapid.checks=3000"},
	},
}
