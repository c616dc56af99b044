package simulation

import (
	"fmt"
	"strings"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/simulator"
	"github.com/libcluster/libcluster/libclustertest"
)

// longestTTL is the longest that an app asks for.
const longestTTL = 20 * time.Second

// populate makes the first apps: three to six.
func (w *world) populate() {
	w.Locked(func() {
		for n := range 3 + w.Steps.IntN(4) {
			a := w.addApp(string(rune('a' + n)))
			a.join(time.Minute)
		}
	})
	w.rest(0)
}

// addApp makes an app of that ID, or a passive one that has another.
func (w *world) addApp(id string) *app {
	ttls := []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second, 10 * time.Second, longestTTL}
	cfg := libcluster.Config{ID: id, Workers: 1 + w.Steps.IntN(5), TTL: ttls[w.Steps.IntN(len(ttls))]}
	name := fmt.Sprintf("%s%d", id, len(w.apps))
	switch n := w.Steps.IntN(100); {
	case n < 15:
		cfg.ID, cfg.Passive = name, true
	case n < 35:
		cfg.Outage = libcluster.KeepOnOutage
	}
	return w.add(name, cfg)
}

// step does one thing at random.
func (w *world) step() {
	w.Locked(func() {
		a := w.apps[w.Steps.IntN(len(w.apps))]
		all := []struct {
			percent int
			do      func(*app)
		}{
			{24, w.stepApp},
			{22, func(a *app) { w.StepWeather(a.App) }},
			{18, w.stepRecord},
			{8, w.stepStranger},
			{7, w.stepStore},
			{12, func(a *app) { w.StepCallback(a.App) }},
			{4, w.stepCrash},
			{5, w.stepNewcomer},
		}
		n := w.Steps.IntN(100)
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
	if a.Busy || a.Crashed() {
		return
	}
	patience := w.Draw(30*time.Second) + time.Millisecond
	switch n := w.Steps.IntN(100); {
	case !a.InStay:
		w.Happened("join")
		a.join(patience)
	case a.cfg.Passive || n < 30:
		w.Happened("leave")
		a.leave(patience)
	case n < 50:
		w.Happened("leave returning")
		a.leaveReturning(w.Draw(20*time.Second)+time.Second, patience)
	default:
		w.Happened("set workers")
		a.setWorkers(1+w.Steps.IntN(9), patience)
	}
}

// stepRecord does something to the record of an app.
func (w *world) stepRecord(a *app) {
	id := a.ID
	var did bool
	var what string
	switch w.Steps.IntN(5) {
	case 0:
		what, did = "expire", w.Expire(cluster, id)
	case 1:
		if what = "steal"; w.Steps.IntN(3) == 0 {
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
	w.Say("%s %s", what, id)
	w.Happened(what)
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
	if n := w.Steps.IntN(len(bad) + len(good)); n < len(bad) {
		return bad[n], 0
	} else {
		n -= len(bad)
		return good[n], []int{1, 2, 7, 3, 9}[n]
	}
}

// stepStranger writes or deletes a record that is no app's.
func (w *world) stepStranger(*app) {
	id := []string{"", "A", "bb", "c/d", "~", "é"}[w.Steps.IntN(6)]
	if w.Steps.IntN(4) == 0 {
		w.Happened("stranger's delete")
		w.Say("delete stranger %q: %v", id, w.Delete(cluster, id))
		return
	}
	value, workers := w.record()
	w.Say("stranger %q: %.20q", id, value)
	w.Put(cluster, id, []byte(value))
	if id == "" || strings.Contains(id, "/") {
		workers = 0
	}
	w.Happened(map[bool]string{true: "stranger's record", false: "stranger's garbage"}[workers > 0])
	if _, got, _ := stateOf(id, true, w.Members(cluster)); got != workers {
		w.Fail("stranger %q is taken for %d workers and not %d", id, got, workers)
	}
}

// stepStore does something to the whole store.
func (w *world) stepStore(*app) {
	switch n := w.Steps.IntN(100); {
	case n < 40:
		w.Say("compact")
		w.Happened("compact")
		w.Compact()
	case n < 75:
		w.Say("backup of %d", w.Revision(cluster))
		w.backups = append(w.backups, backup{w.Snapshot(), w.past.era(), w.Revision(cluster)})
	case n < 93 && len(w.backups) > 0:
		w.Happened("restore")
		w.restore(w.backups[w.Steps.IntN(len(w.backups))])
	case n >= 93:
		w.Happened("wipe")
		w.restore(backup{})
	}
}

func (w *world) restore(b backup) {
	w.Say("restore %d", b.revision)
	w.past.back(b.era, b.revision)
	w.Restore(b.Snapshot)
	w.restores++
	clear(w.owners)
	for _, a := range w.apps {
		w.tampered(a.ID, nil)
	}
}

// stepCrash ends an app as kill -9 does: the registry hears of it no more.
func (w *world) stepCrash(a *app) {
	alive := 0
	for _, b := range w.apps {
		if !b.Crashed() {
			alive++
		}
	}
	if alive > 2 && !a.Crashed() && !a.Busy && a.InStay {
		w.Happened("crash")
		a.Crash()
	}
}

// stepNewcomer starts another app. It may have the ID of one that has crashed, or
// has left, or is there: then it takes that over.
func (w *world) stepNewcomer(a *app) {
	if len(w.apps) > 9 {
		return
	}
	id := string(rune('a' + w.Steps.IntN(7)))
	b := w.addApp(id)
	w.Happened("newcomer")
	if b.ID == a.ID && a.InStay && !a.Crashed() {
		w.Happened("same ID twice")
	}
	b.join(w.Draw(30*time.Second) + time.Millisecond)
}

// faults are the kinds that must have happened for a run to prove anything.
func faults() []string {
	kinds := []string{
		"step", "callback", "join", "leave", "leave returning", "set workers", "cut", "heal", "cut all", "heal all",
		"expire", "steal", "delete", "overwrite", "stranger's record", "stranger's garbage", "stranger's delete",
		"compact", "restore", "wipe", "slow callback", "hanging callback", "crash", "newcomer", "same ID twice", "slow",
		"context ended in Join", "context ended in Leave", "context ended in Leave(Returning)", "context ended in SetWorkers",
	}
	return append(kinds, simulator.FaultsOf(
		libclustertest.OpJoin, libclustertest.OpRenew, libclustertest.OpUpdate, libclustertest.OpLeave, libclustertest.OpNext,
	)...)
}
