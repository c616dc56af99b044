package libcluster_test

import (
	"fmt"
	"slices"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

// populate makes the first apps: three to six.
func (w *world) populate() {
	w.Locked(func() {
		if w.Steps.IntN(2) == 0 {
			w.ttl = ttls[w.Steps.IntN(len(ttls))]
		}
		w.primaries = w.styled && w.Steps.IntN(4) == 0
		for n := range 3 + w.Steps.IntN(4) {
			w.addApp(string(rune('a' + n))).join(time.Minute)
		}
	})
	w.rest(0)
}

// step does one thing at random.
func (w *world) step() {
	if w.styled && w.Steps.IntN(4) > 0 {
		w.Locked(w.stepStyled)
		return
	}
	n := w.Steps.IntN(100)
	if n < 9 {
		// Nobody is so quick that a plan is made in the same millisecond.
		w.rest(time.Millisecond)
	}
	switch {
	case n < 2:
		w.restoreAfterOutage()
		return
	case n < 3:
		w.Locked(w.restore)
		return
	case n < 9:
		w.tamperWithPlan()
		return
	}
	n = w.Steps.IntN(91)
	w.Locked(func() {
		a := w.apps[w.Steps.IntN(len(w.apps))]
		for _, s := range []struct {
			percent int
			do      func(*app)
		}{
			{24, w.stepApp},
			{18, func(a *app) { w.StepWeather(a.App) }},
			{10, w.stepRecord},
			{5, w.stepStore},
			{14, w.stepCoordinator},
			{11, func(a *app) { w.StepCallback(a.App) }},
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
	if a.Busy || a.Crashed() {
		return
	}
	patience := w.drawPatience()
	switch n := w.Steps.IntN(100); {
	case !a.InStay:
		w.Happened("join")
		a.join(patience)
	case n < 30:
		w.Happened("leave")
		a.leave(patience)
	case n < 50:
		w.Happened("leave returning")
		a.leave(patience, libcluster.Returning(w.Draw(longestTTL)+time.Second))
	default:
		w.Happened("set workers")
		a.setWorkers(1+w.Steps.IntN(9), patience)
	}
}

// drainingKey with an ID is where an operator writes that it drains.
const drainingKey = "/p/draining/"

// stepRecord does something to the record of an app.
func (w *world) stepRecord(a *app) {
	var did bool
	var what string
	switch w.Steps.IntN(8) {
	case 0, 1:
		what, did = "expire", w.Expire(simulated, a.ID)
	case 2:
		what, did = "steal", w.Steal(simulated, a.ID)
	case 3:
		what, did = "delete", w.Delete(simulated, a.ID)
	case 4:
		what, did = "overwrite", true
		w.Put(simulated, a.ID, []byte("3"))
	case 5:
		id := []string{"", "A", "bb", "c/d", "~"}[w.Steps.IntN(5)]
		what, did = "stranger", true
		w.Put(simulated, id, []byte([]string{"", "3", "{", `{"workers":2,"mode":"exclusive"}`}[w.Steps.IntN(4)]))
	case 6, 7:
		what, did = "undrain", w.Delete(simulated, drainingKey+a.ID)
		if !did {
			what, did = "drain", true
			w.Put(simulated, drainingKey+a.ID, nil)
		}
	}
	if did {
		w.Say("%s %s", what, a.ID)
		w.Happened(what)
	}
}

// tamperWithPlan deletes the plan, or overwrites it. If nobody makes another one at
// once, it is put back: should all who knew it go meanwhile, a newcomer finds a
// cluster that has never been, and no protocol can help.
func (w *world) tamperWithPlan() {
	var before, text string
	w.Locked(func() {
		before = w.Plan(simulated)
		what := "plan deleted"
		switch n := w.Steps.IntN(3); {
		case n == 1:
			what, text = "plan garbage", w.garbage()[w.Steps.IntN(4)]
		case n == 2 && len(w.oldPlans) > 0:
			what, text = "plan from before", w.oldPlans[w.Steps.IntN(len(w.oldPlans))]
		}
		w.Say("%s: %q", what, text)
		w.Happened(what)
		w.PutPlan(simulated, text)
		w.back = time.Now()
	})
	w.rest(0)
	w.Locked(func() {
		if w.Plan(simulated) == text {
			w.Say("the plan is put back")
			w.Happened("plan put back")
			w.PutPlan(simulated, before)
		}
	})
}

// garbage is four plans that are none of this cluster's.
func (w *world) garbage() []string {
	if w.cooperates() {
		return []string{"x", w.emptyPlan(w.partitions), "exclusive\tcommit\t7\t0\n", w.emptyPlan(w.partitions + 1)}
	}
	return []string{"x", "exclusive\tcommit\t7\t0", "planned\tcommit\t7\t0\n", "\n\n"}
}

func (w *world) emptyPlan(partitions int) string {
	return fmt.Sprintf("cooperative\tcommit\t7\t%d\n", partitions)
}

// stepStore does something to the whole store.
func (w *world) stepStore(*app) {
	switch n := w.Steps.IntN(100); {
	case n < 30:
		w.Say("compact")
		w.Happened("compact")
		w.Compact()
	case n < 70:
		w.Say("backup of %d", w.Revision(simulated))
		p, err := libcluster.ReadPlan(w.Plan(simulated))
		if err != nil || !p.Committed {
			p.Named = nil
		}
		w.backups = append(w.backups, backup{w.Snapshot(), p.Named})
	default:
		d := []time.Duration{0, 3 * time.Second, longestGrant}[w.Steps.IntN(3)]
		w.Say("grant %v", d)
		w.Happened("grant")
		w.GrantTTL(d)
	}
}

// restore restores a backup at once, while all are at work. It must name all who may
// act, whatever plan they act by: who has not heard of that one, and finds the plan of
// the backup, cannot know that anybody else may be cut off. And they are waited for only
// as long as those would act that it names.
func (w *world) restore() {
	if len(w.backups) == 0 || w.ttl == 0 {
		return
	}
	if b := w.backups[w.Steps.IntN(len(w.backups))]; b.named != nil && w.nobodyElseMayAct(b.named) {
		w.Say("restore")
		w.Happened("restore")
		w.Restore(b.Snapshot)
		w.back = time.Now()
	}
}

// nobodyElseMayAct tells whether nobody may act but these incarnations.
func (w *world) nobodyElseMayAct(these []string) bool {
	return !slices.ContainsFunc(w.apps, func(a *app) bool {
		return a.view != nil && time.Now().Before(a.view.deadline) && !slices.Contains(these, a.view.Incarnation())
	})
}

// restoreAfterOutage restores any backup, or none at all, as one should: after the
// registry has been down for so long that nobody acts any more.
func (w *world) restoreAfterOutage() {
	w.Locked(func() {
		w.Say("outage, and then restore")
		w.Happened("restore after outage")
		w.CutAll()
	})
	w.rest(libcluster.UntilOver(libcluster.Window(longestTTL)))
	w.Locked(func() {
		b := backup{}
		if n := w.Steps.IntN(len(w.backups) + 1); n < len(w.backups) {
			b = w.backups[n]
		}
		w.Restore(b.Snapshot)
		w.back = time.Now()
		w.HealAll()
	})
}

// stepCoordinator deposes the coordinator, or has it die or stand still.
func (w *world) stepCoordinator(a *app) {
	if w.Steps.IntN(100) < 30 {
		w.Say("depose %s", w.Coordinator(simulated))
		w.Happened("depose")
		w.Depose(simulated)
		return
	}
	if w.Steps.IntN(100) < 80 {
		for _, b := range w.apps {
			if b.ID == w.Coordinator(simulated) && !b.Crashed() {
				a = b
			}
		}
	}
	ops := []libclustertest.Op{
		libclustertest.OpSwap, libclustertest.OpSwap, libclustertest.OpSurvey,
		libclustertest.OpClaim, libclustertest.OpAcknowledge, libclustertest.OpJoin,
	}
	a.doom = &doom{op: ops[w.Steps.IntN(len(ops))], after: w.Steps.IntN(2) == 0}
	if a.doom.op != libclustertest.OpJoin && (!w.mayCrash() || w.Steps.IntN(100) < 70) {
		a.doom.pause = w.Draw(15*time.Second) + 1
	}
	if a.doom.op == libclustertest.OpJoin && !w.mayCrash() {
		a.doom = nil
		return
	}
	w.Say("%s: doom %+v", a, *a.doom)
}

func (w *world) mayCrash() bool {
	alive := 0
	for _, a := range w.apps {
		if !a.Crashed() {
			alive++
		}
	}
	return alive > 2
}

// stepCrash ends an app as kill -9 does: the registry hears of it no more. It may be
// started again at once.
func (w *world) stepCrash(a *app) {
	if !w.mayCrash() || a.Crashed() {
		return
	}
	w.Happened("crash")
	a.Crash()
	if w.Steps.IntN(2) == 0 {
		w.Happened("restart")
		w.addApp(a.ID).join(w.Draw(40*time.Second) + time.Millisecond)
	}
}

// stepNewcomer starts another app. It may have the ID of one that has crashed, or
// has left, or is there: then it takes that over.
func (w *world) stepNewcomer(*app) {
	if len(w.apps) > 9 {
		return
	}
	id := string(rune('a' + w.Steps.IntN(7)))
	if w.cooperates() && w.Steps.IntN(5) == 0 {
		w.addOther()
		return
	}
	w.Happened("newcomer")
	if slices.ContainsFunc(w.apps, func(b *app) bool { return b.ID == id && b.InStay && !b.Crashed() }) {
		w.Happened("same ID twice")
	}
	w.addApp(id).join(w.Draw(40*time.Second) + time.Millisecond)
}

// exclusiveFaults are the kinds that must have happened for a run to prove anything.
func exclusiveFaults() []string {
	kinds := []string{
		"step", "callback", "join", "leave", "leave returning", "set workers", "cut", "heal", "cut all", "heal all",
		"expire", "steal", "delete", "overwrite", "stranger", "drain", "undrain", "compact", "restore", "restore after outage", "grant",
		"plan deleted", "plan garbage", "plan from before", "plan put back", "depose", "slow callback", "hanging callback", "stuck",
		"crash", "restart", "newcomer", "same ID twice", "slow", "prepare", "commit", "new generation, same places",
		"context ended in Join", "context ended in Leave",
	}
	for _, op := range []libclustertest.Op{
		libclustertest.OpClaim, libclustertest.OpSwap, libclustertest.OpAcknowledge, libclustertest.OpSurvey,
	} {
		for _, when := range []string{" before ", " after "} {
			kinds = append(kinds, "dies"+when+string(op), "stands still"+when+string(op))
		}
	}
	kinds = append(append(kinds, insideCalls()...), styledEvents()...)
	return append(kinds, simulator.FaultsOf(
		libclustertest.OpJoin, libclustertest.OpRenew, libclustertest.OpUpdate, libclustertest.OpLeave, libclustertest.OpClaim,
		libclustertest.OpSwap, libclustertest.OpAcknowledge, libclustertest.OpNext, libclustertest.OpSurvey,
	)...)
}
