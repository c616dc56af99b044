package simulation

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// longestTTL is the longest that an app asks for.
const longestTTL = 20 * time.Second

func sorted(keys iter.Seq[string]) []string { return slices.Sorted(keys) }

// populate makes the first apps: three to six.
func (w *world) populate() {
	w.locked(func() {
		for n := range 3 + w.steps.IntN(4) {
			a := w.addApp(string(rune('a' + n)))
			a.join(time.Minute)
		}
	})
	w.rest(0)
}

// addApp makes an app of that ID, or a passive one that has another.
func (w *world) addApp(id string) *app {
	ttls := []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, longestTTL}
	cfg := libcluster.Config{ID: id, Workers: 1 + w.steps.IntN(5), TTL: ttls[w.steps.IntN(len(ttls))]}
	name := fmt.Sprintf("%s%d", id, len(w.apps))
	switch n := w.steps.IntN(100); {
	case n < 15:
		cfg.ID, cfg.Passive = name, true
	case n < 35:
		cfg.Outage = libcluster.KeepOnOutage
	}
	return w.add(name, cfg)
}

// step does one thing at random.
func (w *world) step() {
	w.locked(func() {
		a := w.apps[w.steps.IntN(len(w.apps))]
		all := []struct {
			percent int
			do      func(*app)
		}{
			{24, w.stepApp},
			{22, w.stepWeather},
			{18, w.stepRecord},
			{8, w.stepStranger},
			{7, w.stepStore},
			{12, w.stepCallback},
			{4, w.stepCrash},
			{5, w.stepNewcomer},
		}
		n := w.steps.IntN(100)
		for _, s := range all {
			if n -= s.percent; n < 0 {
				w.note()
				s.do(a)
				w.note()
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
	patience := w.draw(30*time.Second) + time.Millisecond
	switch n := w.steps.IntN(100); {
	case !a.inStay:
		w.happened("join")
		a.join(patience)
	case a.cfg.Passive || n < 30:
		w.happened("leave")
		a.leave(patience)
	case n < 50:
		w.happened("leave returning")
		a.leaveReturning(w.draw(20*time.Second)+time.Second, patience)
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
	id := a.id
	var did bool
	var what string
	switch w.steps.IntN(5) {
	case 0:
		what, did = "expire", w.Expire(cluster, id)
	case 1:
		if what = "steal"; w.steps.IntN(3) == 0 {
			did = w.Steal(cluster, id)
		}
	case 2:
		what, did = "delete", w.Delete(cluster, id)
	case 3:
		value, _ := w.record()
		what, did = "overwrite", true
		w.Put(cluster, id, []byte(value))
	case 4:
		return
	}
	if !did {
		return
	}
	w.say("%s %s", what, id)
	w.happened(what)
	w.owners[id] = nil
	w.tampered(id, nil)
}

// record draws what a stranger may write, and the workers that it stands for.
func (w *world) record() (value string, workers int) {
	bad := []string{
		"", "0", "-1", "+3", "1e3", "1.0", "2147483648", "99999999999999999999", "three", "{", "{}", "[]", "null",
		`{"workers":-1}`, `{"workers":"2"}`, `{"workers":1e99}`, "\x00", "\xff\xfe", strings.Repeat("7", 70_000),
	}
	good := []string{"1", " 2\n", "007", `{"workers":3,"address":"192.0.2.1:80","future":[1]}`, "9"}
	if n := w.steps.IntN(len(bad) + len(good)); n < len(bad) {
		return bad[n], 0
	} else {
		n -= len(bad)
		return good[n], []int{1, 2, 7, 3, 9}[n]
	}
}

// stepStranger writes or deletes a record that is no app's.
func (w *world) stepStranger(*app) {
	id := []string{"", "A", "bb", "c/d", "~", "é"}[w.steps.IntN(6)]
	if w.steps.IntN(4) == 0 {
		w.happened("stranger's delete")
		w.say("delete stranger %q: %v", id, w.Delete(cluster, id))
		return
	}
	value, workers := w.record()
	w.say("stranger %q: %.20q", id, value)
	w.Put(cluster, id, []byte(value))
	if id == "" || strings.Contains(id, "/") {
		workers = 0
	}
	w.happened(map[bool]string{true: "stranger's record", false: "stranger's garbage"}[workers > 0])
	if _, got, _ := stateOf(id, true, w.Members(cluster)); got != workers {
		w.fail("stranger %q is taken for %d workers and not %d", id, got, workers)
	}
}

// stepStore does something to the whole store.
func (w *world) stepStore(*app) {
	switch n := w.steps.IntN(100); {
	case n < 40:
		w.say("compact")
		w.happened("compact")
		w.Compact()
	case n < 75:
		w.say("backup of %d", w.Revision())
		w.backups = append(w.backups, backup{w.Snapshot(), w.past.era(), w.Revision()})
	case n < 93 && len(w.backups) > 0:
		w.happened("restore")
		w.restore(w.backups[w.steps.IntN(len(w.backups))])
	case n >= 93:
		w.happened("wipe")
		w.restore(backup{})
	}
}

func (w *world) restore(b backup) {
	w.say("restore %d", b.revision)
	w.past.back(b.era, b.revision)
	w.Restore(b.Snapshot)
	w.restores++
	clear(w.owners)
	for _, a := range w.apps {
		w.tampered(a.id, nil)
	}
}

// stepCallback changes how long an app's callbacks take.
func (w *world) stepCallback(a *app) {
	wait := func(d <-chan time.Time) {
		select {
		case <-d:
		case <-w.calm:
		case <-a.crashed:
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

// stepCrash ends an app as kill -9 does: the registry hears of it no more.
func (w *world) stepCrash(a *app) {
	alive := 0
	for _, b := range w.apps {
		if !b.isCrashed() {
			alive++
		}
	}
	if alive > 2 && !a.isCrashed() && !a.busy && a.inStay {
		w.say("%s crashes", a)
		w.happened("crash")
		close(a.crashed)
	}
}

// stepNewcomer starts another app. It may have the ID of one that has crashed, or
// has left, or is there: then it takes that over.
func (w *world) stepNewcomer(a *app) {
	if len(w.apps) > 9 {
		return
	}
	id := string(rune('a' + w.steps.IntN(7)))
	b := w.addApp(id)
	w.happened("newcomer")
	if b.id == a.id && a.inStay && !a.isCrashed() {
		w.happened("same ID twice")
	}
	b.join(w.draw(30*time.Second) + time.Millisecond)
}

// faults are the kinds that must have happened for a run to prove anything.
func faults() []string {
	kinds := []string{
		"step", "callback", "join", "leave", "leave returning", "set workers", "cut", "heal", "cut all", "heal all",
		"expire", "steal", "delete", "overwrite", "stranger's record", "stranger's garbage", "stranger's delete",
		"compact", "restore", "wipe", "slow callback", "hanging callback", "crash", "newcomer", "same ID twice", "slow",
		"context ended in Join", "context ended in Leave", "context ended in Leave(Returning)", "context ended in SetWorkers",
	}
	for _, op := range []libclustertest.Op{
		libclustertest.OpJoin, libclustertest.OpRenew, libclustertest.OpUpdate, libclustertest.OpLeave,
	} {
		for _, fault := range []string{"error", "request lost", "answer lost", "request late", "request twice"} {
			kinds = append(kinds, fault+" of "+string(op))
		}
	}
	return append(kinds, "error of next", "request lost of next")
}
