package libcluster

import (
	"sync"
	"time"
)

// live has everything done that keeps the incarnation alive, until it is over. It returns
// whether a renewal has ever succeeded, and why it is over.
func (inc *incarnation) live() (confirmed bool, why error) {
	var running sync.WaitGroup
	b := newBalancer(inc)
	running.Go(b.balance)
	running.Go(func() { inc.errand(inc.drain.unsaid, inc.acknowledge) })
	running.Go(func() { inc.errand(inc.record.due, publisher{inc}.catchUp) })
	inc.record.compare()
	confirmed = inc.heartbeats()
	running.Wait()
	b.coordinator.running.Wait()
	return confirmed, inc.fenced()
}

// errand tells the registry something whenever it is asked to, and again until it has
// succeeded, with a backoff of its own: a heartbeat may be minutes away. Neither errand waits
// for the other, and no heartbeat waits for them.
func (inc *incarnation) errand(asked signal, do func() bool) {
	again := inc.newRetry()
	var due <-chan time.Time // nil: nothing is to be tried again
	for {
		select {
		case <-inc.ctx.Done():
			return
		case <-asked:
		case <-due:
		}
		if do() {
			again.reset()
			due = nil
		} else {
			due = time.After(again.next())
		}
	}
}
