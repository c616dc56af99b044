package libcluster

import "time"

// damping is what a coordinator remembers of instances that came and soon vanished. An
// instance in a crash loop, with another ID each time, would otherwise have the others
// stop and start for ever. After two such instances newcomers have to wait before they
// get an assignment. The wait grows each time that a newcomer vanishes soon though it has
// waited. A newcomer that crashes before its wait is over never gets an assignment. After a
// calm time no instance waits any more.
//
// An instance that has had an assignment does not wait, nor does the only instance, nor a
// newcomer while none have vanished. An instance that leaves has not vanished.
//
// What a coordinator remembers goes with it: the next coordinator learns it anew.
type damping struct {
	ttl   time.Duration       // 0: no instance ever waits
	came  map[string]*arrival // by ID, of all instances that are there; nil: there was no survey yet
	level int                 // how often newcomers have come to wait longer
	lost  int                 // how many newcomers have vanished soon since then
	last  moment              // when the last one did
	held  time.Duration       // how long the first newcomer has to wait yet; 0: no newcomer waits
}

// arrival is of an instance that is there.
type arrival struct {
	at          moment
	incarnation string // the latest
	settled     bool   // whatever becomes of it, it has not come just now
	level       int    // at which it was let in; -1: it waits
}

// These count in TTLs, since the record of a crashed instance lives on for one.
const (
	// An instance that vanishes within soonTTLs of its coming has vanished soon.
	soonTTLs = 6
	// Newcomers wait for holdTTLs at first: an instance that dies at once is known to be
	// dead by then. The wait doubles up to soonTTLs.
	holdTTLs = 2
	// No newcomer waits after calmTTLs in which no instance has vanished soon. A newcomer
	// that waits may come and go once in soonTTLs.
	calmTTLs = 2 * soonTTLs
	// So many may vanish soon by chance.
	byChance = 1
)

// hold returns how long a newcomer has to wait.
func (d *damping) hold() time.Duration {
	if d.level == 0 {
		return 0
	}
	return d.ttl * time.Duration(min(holdTTLs<<min(d.level-1, soonTTLs), soonTTLs))
}

// admit returns the members without the newcomers that have to wait.
func (d *damping) admit(base *plan, members []Recorded, s Survey, at moment) (admitted []Recorded) {
	d.observe(members, s, at)
	d.held = 0
	holds := make(map[string]bool, len(base.lines)) // by ID
	for _, l := range base.lines {
		holds[l.ID] = l.Index >= 0
	}
	atWork := false
	for _, m := range members {
		atWork = atWork || holds[m.ID] && !m.reserved
	}
	admitted = make([]Recorded, 0, len(members))
	for _, m := range members {
		a := d.came[m.ID]
		left := d.hold() - at.sinceAtLeast(a.at)
		if atWork && !holds[m.ID] && !a.settled && left > 0 {
			d.held = sooner(d.held, left)
			continue
		}
		if a.level < 0 {
			a.level = d.level
		}
		admitted = append(admitted, m)
	}
	return admitted
}

// observe notes which instances have come and which have vanished.
func (d *damping) observe(members []Recorded, s Survey, at moment) {
	if at.sinceAtLeast(d.last) >= calmTTLs*d.ttl {
		d.level, d.lost = 0, 0
	}
	first := d.came == nil
	present := make(map[string]*arrival, len(members))
	for _, m := range members {
		a := d.came[m.ID]
		if a == nil {
			a = &arrival{at: at, settled: first, level: -1}
		}
		a.incarnation, a.settled = m.Incarnation, a.settled || m.reserved
		present[m.ID] = a
	}
	for id, a := range d.came {
		left := s.Acknowledged[a.incarnation] == StoppedForGood
		if present[id] == nil && !left && !a.settled && at.sinceAtLeast(a.at) < soonTTLs*d.ttl {
			d.vanishedSoon(a, at)
		}
	}
	d.came = present
}

func (d *damping) vanishedSoon(a *arrival, at moment) {
	d.last = at
	if a.level != d.level {
		return // it waits, as it should, or was let in before newcomers had to
	}
	d.lost++
	if d.level > 0 || d.lost > byChance {
		d.level, d.lost = d.level+1, 0
	}
}
