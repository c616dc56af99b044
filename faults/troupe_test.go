//go:build linux && faults

package faults_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// troupe is the processes that act in one cluster, and the registry that they act by.
type troupe struct {
	t      *testing.T
	stage  stage
	mode   libcluster.Mode
	folder string
	acts   string
	actors []*actor
	struck []struck // the faults that were injected

	// What is wrong with the registry, and until when.
	mend   func()
	mendAt time.Duration
}

// struck is a fault.
type struck struct {
	at, length time.Duration
	who, how   string
}

func (s struck) String() string {
	return fmt.Sprintf("%v %s: %s %s", s.at, s.who, s.how, short(s.length))
}

// note takes a fault down.
func (x *troupe) note(who, how string, length time.Duration) {
	x.struck = append(x.struck, struck{boot(), length, who, how})
}

// counts says how often each fault was injected.
func (x *troupe) counts() string {
	counts := make(map[string]int)
	for _, s := range x.struck {
		counts[s.how]++
	}
	var all []string
	for _, how := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s %d", how, counts[how]))
	}
	return strings.Join(all, ", ")
}

// actorCount is how many actors suffer, and actorID names one of them.
const actorCount = 6

func actorID(n int) string { return fmt.Sprintf("actor%d", n) }

// actor is an instance whose processes come and go.
type actor struct {
	part
	// host is the words by which its processes run on a host of their own; none: on this one.
	host []string
	// cut cuts it off from its registry; nil: it has no line there.
	cut    func() (mend func())
	plays  []*process // the last one is the present one; those before may be frozen, or leaving
	leaves bool       // the last one has been told to
	mend   func()     // undoes what ails it; nil: nothing does
	// mendAt is when.
	mendAt time.Duration
}

func newTroupe(t *testing.T, by stage, mode libcluster.Mode, n int) *troupe {
	t.Helper()
	folder := t.TempDir()
	x := &troupe{t: t, stage: by, mode: mode, folder: folder, acts: filepath.Join(folder, "acts")}
	for i := range n {
		a := &actor{part: part{
			Registry: by.scheme, ID: actorID(i), Mode: mode, Workers: 1 + i%3, TTL: actorTTL, Acts: x.acts,
		}}
		switch {
		case by.house != nil:
			by.house(a, i)
		case len(by.hosts) > 0:
			a.useLines(t, by)
		default:
			a.URLs = []string{by.scheme + ":" + filepath.Join(folder, "registry")}
		}
		x.actors = append(x.actors, a)
	}
	t.Cleanup(func() {
		for _, a := range x.actors {
			for _, p := range a.plays {
				p.kill()
			}
		}
		x.showLogs()
	})
	return x
}

// useLines gives an actor a line to each server.
func (a *actor) useLines(t *testing.T, by stage) {
	t.Helper()
	var lines []*line
	for _, host := range by.hosts {
		l := startLine(t, host, nil)
		lines, a.URLs = append(lines, l), append(a.URLs, by.scheme+"://"+l.address())
	}
	a.cut = func() (mend func()) {
		up, down := rand.N(3) > 0, rand.N(3) > 0
		for _, l := range lines {
			l.cut(up || !down, down)
		}
		return func() {
			for _, l := range lines {
				l.heal(rand.N(2) == 0)
			}
		}
	}
}

func (x *troupe) start(a *actor) {
	x.t.Helper()
	// The port and the data folder of a voter are those of a process that is there yet.
	a.Client = x.stage.voters > 0 && a.on() != nil
	text, err := json.Marshal(a.part)
	require.NoError(x.t, err)
	log, err := os.OpenFile(filepath.Join(x.folder, a.ID+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(x.t, err)
	defer log.Close()
	a.leaves = false
	a.plays = append(a.plays, spawnAt(x.t, a.host, roleActor, log, []string{partVariable + "=" + string(text)}))
}

func (x *troupe) showLogs() {
	const lines = 40
	logs, _ := filepath.Glob(filepath.Join(x.folder, "*.log"))
	for _, name := range logs {
		if text, err := os.ReadFile(name); err == nil && x.t.Failed() {
			tail := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
			x.t.Logf("the end of %s:\n%s", filepath.Base(name), bytes.Join(tail[max(0, len(tail)-lines):], []byte("\n")))
		}
	}
}

// on returns the actor's process, or nil if it has none.
func (a *actor) on() *process {
	if len(a.plays) == 0 || a.leaves {
		return nil
	}
	p := a.plays[len(a.plays)-1]
	if isClosed(p.ended) {
		return nil
	}
	return p
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// ail has something be wrong with the actor for a while.
func (a *actor) ail(d time.Duration, mend func()) {
	a.mend, a.mendAt = mend, boot()+d
}

// blight does the same with the registry.
func (x *troupe) blight(d time.Duration, mend func()) {
	x.mend, x.mendAt = mend, boot()+d
}

// mendAll undoes what is due; everything, if all.
func (x *troupe) mendAll(all bool) {
	if x.mend != nil && (all || boot() >= x.mendAt) {
		x.mend()
		x.mend = nil
	}
	for _, a := range x.actors {
		if a.mend != nil && (all || boot() >= a.mendAt) {
			a.mend()
			a.mend = nil
		}
	}
}

// next returns whom the next fault meets: as a rule a voter that is gone, or has only a process
// without a server, since without a majority of them nothing happens; and otherwise anybody.
func (x *troupe) next() *actor {
	for _, a := range x.actors[:x.stage.voters] {
		if (a.on() == nil || a.Client) && rand.N(2) == 0 {
			return a
		}
	}
	return x.actors[rand.N(len(x.actors))]
}

// strike injects one fault at random.
func (x *troupe) strike() {
	if x.mend == nil && x.stage.strike != nil && rand.N(15) == 0 {
		x.stage.strike(x)
		return
	}
	a := x.next()
	if a.mend != nil {
		return
	}
	p := a.on()
	if p == nil {
		x.note(a.ID, "join", 0)
		x.start(a)
		return
	}
	// Shorter than the deadline, about as long, and longer than the TTL.
	length := rand.N(2 * actorTTL)
	switch rand.N(8) {
	case 0, 1:
		x.note(a.ID, "leave", 0)
		p.signal(syscall.SIGTERM)
		a.leaves = true
	case 2:
		x.note(a.ID, "kill -9", 0)
		p.kill()
	case 3:
		x.note(a.ID, "kill -9 and a new process at once", 0)
		p.kill()
		x.start(a)
	case 4:
		x.note(a.ID, "SIGSTOP", length)
		p.freeze()
		a.ail(length, p.thaw)
	case 5:
		x.note(a.ID, "SIGSTOP and another process with its ID", length)
		p.freeze()
		x.start(a)
		a.ail(length, p.thaw)
	case 6, 7:
		if a.cut == nil {
			return
		}
		x.note(a.ID, "cut", length)
		a.ail(length, a.cut())
	}
}

// end ends all faults, waits until everybody is at work, and has all leave. It
// returns how long that took.
func (x *troupe) end() (whole time.Duration) {
	x.t.Helper()
	x.mendAll(true)
	for _, a := range x.actors {
		if p := a.on(); p != nil && a.Client {
			p.kill() // it stands in for a voter's process that may have ended: there shall be a server
		}
		if a.on() == nil {
			x.start(a)
		}
	}
	since := boot()
	await(x.t, patience, "all to act together when all faults have ended", func() bool {
		lasts(100 * time.Millisecond)
		return x.together(since)
	})
	whole = boot() - since
	// The first actors may be the others' servers.
	for _, a := range slices.Backward(x.actors) {
		for _, p := range a.plays {
			if !isClosed(p.ended) {
				p.stop()
				require.True(x.t, p.cmd.ProcessState.Success(), "%s ends with %v", a.ID, p.cmd.ProcessState)
			}
		}
	}
	return whole
}

// together reports whether everybody has acted lately, under one total of which nothing is
// idle.
func (x *troupe) together(since time.Duration) bool {
	total, last := 0, int64(64<<10)
	for _, a := range x.actors {
		total += a.Workers
	}
	if x.mode == libcluster.ModeCooperative {
		total, last = actorPartitions, 8*last
	}
	deeds, _ := readDeeds(x.t, x.acts, last)
	now, acting, held := boot(), make(map[string]bool), make(map[int]bool)
	for _, d := range slices.Backward(deeds) {
		if d.at < max(since, now-20*actEvery(x.mode)) {
			break
		}
		if d.what == acts && d.total == total {
			acting[d.id] = true
			for n := range d.workers {
				held[d.index+n] = true
			}
		}
	}
	return len(acting) == len(x.actors) && len(held) == total
}

// suffer has actors act and suffer for a while, and then, all well again, leave. It returns
// all that they have done.
func suffer(t *testing.T, by stage, mode libcluster.Mode, atLeast time.Duration) suffered {
	x := newTroupe(t, by, mode, actorCount)
	for _, a := range x.actors[:4] {
		x.start(a)
	}
	began := boot()
	for boot()-began < atLeast {
		// Now and then two at once; as a rule there is time for a change to begin,
		// and sometimes for it to end.
		if rand.N(4) > 0 {
			lasts(rand.N(4 * time.Second))
		}
		x.mendAll(false)
		x.strike()
	}
	s := suffered{troupe: x, lasted: boot() - began, whole: x.end()}
	s.deeds, s.cut = readDeeds(t, x.acts, 0)
	s.stints = stintsOf(t, s.deeds)
	for _, one := range s.stints {
		s.actions += one.acts
	}
	require.Greater(t, len(s.stints), int(s.lasted/(10*time.Second)), "hardly anybody acted: nothing is proved")
	return s
}

// suffered is what actors have done while they suffered.
type suffered struct {
	*troupe
	lasted, whole time.Duration // how long the faults lasted, and it took then until all acted
	deeds         []deed
	cut           int // lines
	stints        []*stint
	actions       int
}

// show logs what was done, by which changes, and what is to be said of it.
func (s suffered) show(changes int, v verdict, more string) {
	active := "active"
	if s.mode == libcluster.ModeCooperative {
		active = "at a partition"
	}
	s.t.Logf("| %v mode | %.1f minutes | actions %d | intervals %d | changes %d | overlaps %d | "+
		"deeds late after a look in time %d | longest time with nobody %s %s | all active after the last fault: %s |%s",
		s.mode, s.lasted.Minutes(), s.actions, len(s.stints), changes, len(v.overlaps), len(v.late), active, short(v.idle), short(s.whole), more)
	s.t.Logf("| faults | %s | lines cut off by them %d |", s.counts(), s.cut)
	for _, one := range s.struck {
		if one.at > v.idleFrom-2*actorTTL && one.at < v.idleFrom+v.idle {
			s.t.Logf("about the longest time with nobody %s, from %v: %v", active, v.idleFrom, one)
		}
	}
}
