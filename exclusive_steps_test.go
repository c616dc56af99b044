package libcluster_test

import (
	"slices"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// populate makes the first apps: three to six.
func (w *world) populate() {
	w.locked(func() {
		if w.steps.IntN(2) == 0 {
			w.ttl = ttls[w.steps.IntN(len(ttls))]
		}
		for n := range 3 + w.steps.IntN(4) {
			w.addApp(string(rune('a' + n))).join(time.Minute)
		}
	})
	w.rest(0)
}

// step does one thing at random.
func (w *world) step() {
	n := w.steps.IntN(100)
	if n < 9 {
		// Nobody is so quick that a plan is made in the same millisecond.
		w.rest(time.Millisecond)
	}
	switch {
	case n < 2:
		w.restoreAfterOutage()
		return
	case n < 3:
		w.locked(w.restore)
		return
	case n < 9:
		w.tamperWithPlan()
		return
	}
	n = w.steps.IntN(91)
	w.locked(func() {
		a := w.apps[w.steps.IntN(len(w.apps))]
		for _, s := range []struct {
			percent int
			do      func(*app)
		}{
			{24, w.stepApp},
			{18, w.stepWeather},
			{10, w.stepRecord},
			{5, w.stepStore},
			{14, w.stepCoordinator},
			{11, w.stepCallback},
			{4, w.stepCrash},
			{5, w.stepNewcomer},
		} {
			if n -= s.percent; n < 0 {
				s.do(a)
				return
			}
		}
	})
}

// stepApp has an app join, leave, or set its workers.
func (w *world) stepApp(a *app) {
	if a.busy || a.isCrashed() {
		return
	}
	patience := w.draw(40*time.Second) + time.Millisecond
	switch n := w.steps.IntN(100); {
	case !a.inStay:
		w.happened("join")
		a.join(patience)
	case n < 30:
		w.happened("leave")
		a.leave(patience)
	case n < 50:
		w.happened("leave returning")
		a.leave(patience, libcluster.Returning(w.draw(longestTTL)+time.Second))
	default:
		w.happened("set workers")
		a.setWorkers(1+w.steps.IntN(9), patience)
	}
}

// stepWeather changes what calls meet, or cuts and heals.
func (w *world) stepWeather(a *app) {
	percent := func(most int) int { return max(0, w.steps.IntN(2*most)-most) }
	switch n := w.steps.IntN(100); {
	case n < 25:
		w.say("cut %s", a.id)
		w.happened("cut")
		w.Cut(a.id)
	case n < 50:
		w.say("heal %s", a.id)
		w.happened("heal")
		w.Heal(a.id)
	case n < 55:
		w.say("cut all")
		w.happened("cut all")
		w.CutAll()
	case n < 65:
		w.say("heal all")
		w.happened("heal all")
		w.HealAll()
	case n < 75:
		w.say("%s: fine weather", a)
		a.sky = weather{}
	default:
		a.sky = weather{
			fail: percent(20), loseRequest: percent(10), loseAnswer: percent(10),
			late: percent(10), twice: percent(20), slow: percent(100),
			slowest: w.draw(3*time.Second) + 1,
		}
		w.say("%s: weather %+v", a, a.sky)
	}
}

// stepRecord does something to the record of an app.
func (w *world) stepRecord(a *app) {
	var did bool
	var what string
	switch w.steps.IntN(6) {
	case 0, 1:
		what, did = "expire", w.Expire(simulated, a.id)
	case 2:
		what, did = "steal", w.Steal(simulated, a.id)
	case 3:
		what, did = "delete", w.Delete(simulated, a.id)
	case 4:
		what, did = "overwrite", true
		w.Put(simulated, a.id, []byte("3"))
	case 5:
		id := []string{"", "A", "bb", "c/d", "~"}[w.steps.IntN(5)]
		what, did = "stranger", true
		w.Put(simulated, id, []byte([]string{"", "3", "{", `{"workers":2,"mode":"exclusive"}`}[w.steps.IntN(4)]))
	}
	if did {
		w.say("%s %s", what, a.id)
		w.happened(what)
	}
}

// tamperWithPlan deletes the plan, or overwrites it. If nobody makes another one at
// once, it is put back: should all who knew it go meanwhile, a newcomer finds a
// cluster that has never been, and no protocol can help.
func (w *world) tamperWithPlan() {
	var before, text string
	w.locked(func() {
		before = w.Plan(simulated)
		what := "plan deleted"
		switch n := w.steps.IntN(3); {
		case n == 1:
			what, text = "plan garbage", []string{"x", "exclusive\tcommit\t7\t0", "planned\tcommit\t7\t0\n", "\n\n"}[w.steps.IntN(4)]
		case n == 2 && len(w.oldPlans) > 0:
			what, text = "plan from before", w.oldPlans[w.steps.IntN(len(w.oldPlans))]
		}
		w.say("%s: %q", what, text)
		w.happened(what)
		w.PutPlan(simulated, text)
		w.back = time.Now()
	})
	w.rest(0)
	w.locked(func() {
		if w.Plan(simulated) == text {
			w.say("the plan is put back")
			w.happened("plan put back")
			w.PutPlan(simulated, before)
		}
	})
}

// stepStore does something to the whole store.
func (w *world) stepStore(*app) {
	switch n := w.steps.IntN(100); {
	case n < 30:
		w.say("compact")
		w.happened("compact")
		w.Compact()
	case n < 70:
		w.say("backup of %d", w.Revision())
		p, err := libcluster.ReadPlan(w.Plan(simulated))
		w.backups = append(w.backups, backup{w.Snapshot(), err == nil && p.Holders > 0})
	default:
		d := []time.Duration{0, 3 * time.Second, longestGrant}[w.steps.IntN(3)]
		w.say("grant %v", d)
		w.happened("grant")
		w.GrantTTL(d)
	}
}

// restore restores a backup at once, while all are at work. It must not be one of an
// empty cluster: who is alone in it cannot know that somebody may be cut off. And who
// holds a place in it is waited for only as long as it would act itself.
func (w *world) restore() {
	if len(w.backups) == 0 || w.ttl == 0 {
		return
	}
	if b := w.backups[w.steps.IntN(len(w.backups))]; b.held {
		w.say("restore")
		w.happened("restore")
		w.Restore(b.Snapshot)
		w.back = time.Now()
	}
}

// restoreAfterOutage restores any backup, or none at all, as one should: after the
// registry has been down for so long that nobody acts any more.
func (w *world) restoreAfterOutage() {
	w.locked(func() {
		w.say("outage, and then restore")
		w.happened("restore after outage")
		w.CutAll()
	})
	w.rest(libcluster.UntilOver(libcluster.Window(longestTTL)))
	w.locked(func() {
		b := backup{}
		if n := w.steps.IntN(len(w.backups) + 1); n < len(w.backups) {
			b = w.backups[n]
		}
		w.Restore(b.Snapshot)
		w.back = time.Now()
		w.HealAll()
	})
}

// stepCoordinator deposes whoever coordinates, or has it die or stand still.
func (w *world) stepCoordinator(a *app) {
	if w.steps.IntN(100) < 30 {
		w.say("depose %s", w.Coordinator(simulated))
		w.happened("depose")
		w.Depose(simulated)
		return
	}
	if w.steps.IntN(100) < 80 {
		for _, b := range w.apps {
			if b.id == w.Coordinator(simulated) && !b.isCrashed() {
				a = b
			}
		}
	}
	ops := []libclustertest.Op{
		libclustertest.OpSwap, libclustertest.OpSwap, libclustertest.OpSurvey,
		libclustertest.OpClaim, libclustertest.OpDrained, libclustertest.OpJoin,
	}
	a.doom = &doom{op: ops[w.steps.IntN(len(ops))], after: w.steps.IntN(2) == 0}
	if a.doom.op != libclustertest.OpJoin && (!w.mayCrash() || w.steps.IntN(100) < 70) {
		a.doom.pause = w.draw(15*time.Second) + 1
	}
	if a.doom.op == libclustertest.OpJoin && !w.mayCrash() {
		a.doom = nil
		return
	}
	w.say("%s: doom %+v", a, *a.doom)
}

// stepCallback changes how long an app's callbacks take.
func (w *world) stepCallback(a *app) {
	wait := func(d <-chan time.Time) {
		select {
		case <-d:
		case <-w.calm:
		}
	}
	switch n := w.steps.IntN(100); {
	case n < 40:
		a.slow = nil
		w.say("%s: prompt callbacks", a)
	case n < 85:
		d := w.draw(8 * time.Second)
		a.slow = func() { w.locked(func() { w.happened("slow callback") }); wait(time.After(d)) }
		w.say("%s: callbacks take %v", a, d)
	default:
		a.slow = func() { w.locked(func() { w.happened("hanging callback") }); wait(nil) }
		w.say("%s: callbacks hang", a)
	}
}

func (w *world) mayCrash() bool {
	alive := 0
	for _, a := range w.apps {
		if !a.isCrashed() {
			alive++
		}
	}
	return alive > 2
}

// stepCrash ends an app as kill -9 does: the registry hears of it no more. It may be
// started again at once.
func (w *world) stepCrash(a *app) {
	if !w.mayCrash() || a.isCrashed() {
		return
	}
	w.happened("crash")
	a.crash()
	if w.steps.IntN(2) == 0 {
		w.happened("restart")
		w.addApp(a.id).join(w.draw(40*time.Second) + time.Millisecond)
	}
}

// stepNewcomer starts another app. It may have the ID of one that has crashed, or
// has left, or is there: then it takes that over.
func (w *world) stepNewcomer(*app) {
	if len(w.apps) > 9 {
		return
	}
	id := string(rune('a' + w.steps.IntN(7)))
	w.happened("newcomer")
	if slices.ContainsFunc(w.apps, func(b *app) bool { return b.id == id && b.inStay && !b.isCrashed() }) {
		w.happened("same ID twice")
	}
	w.addApp(id).join(w.draw(40*time.Second) + time.Millisecond)
}

// exclusiveFaults are the kinds that must have happened for a run to prove anything.
func exclusiveFaults() []string {
	kinds := []string{
		"step", "callback", "join", "leave", "leave returning", "set workers", "cut", "heal", "cut all", "heal all",
		"expire", "steal", "delete", "overwrite", "stranger", "compact", "restore", "restore after outage", "grant",
		"plan deleted", "plan garbage", "plan from before", "plan put back", "depose", "slow callback", "hanging callback", "stuck",
		"crash", "restart", "newcomer", "same ID twice", "slow", "prepare", "commit", "new generation, same places",
		"context ended in Join", "context ended in Leave",
	}
	for _, op := range []libclustertest.Op{
		libclustertest.OpJoin, libclustertest.OpRenew, libclustertest.OpUpdate, libclustertest.OpLeave,
		libclustertest.OpClaim, libclustertest.OpSwap, libclustertest.OpDrained,
	} {
		for _, fault := range []string{"error", "request lost", "answer lost", "request late", "request twice"} {
			kinds = append(kinds, fault+" of "+string(op))
		}
	}
	for _, op := range []libclustertest.Op{
		libclustertest.OpClaim, libclustertest.OpSwap, libclustertest.OpDrained, libclustertest.OpSurvey,
	} {
		for _, when := range []string{" before ", " after "} {
			kinds = append(kinds, "dies"+when+string(op), "stands still"+when+string(op))
		}
	}
	return append(kinds, "error of next", "request lost of next", "error of survey", "request lost of survey")
}
