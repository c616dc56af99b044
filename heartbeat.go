package libcluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"
)

// maxUnanswered bounds how many heartbeats may be without an answer at the same time.
// There are six within a window.
const maxUnanswered = 8

// answer is what a heartbeat has brought.
type answer struct {
	sent moment
	ttl  time.Duration
	err  error
}

// heart renews an incarnation's record. One goroutine uses it.
type heart struct {
	inc        *incarnation
	answers    chan answer
	unanswered int
	sent       moment // the latest
	late       bool   // it has no answer yet
	confirmed  bool   // a renewal has succeeded
	beat       *time.Timer
}

// heartbeats renews the record until the incarnation is over, and returns whether a renewal
// has ever succeeded. An answer that is late proves no less than a prompt one: that the
// record was there after its request was sent. So it is waited for until it can't prove
// anything any more, a window later, and meanwhile the next heartbeat is sent beside it.
func (inc *incarnation) heartbeats() (confirmed bool) {
	if inc.ttl() == 0 {
		<-inc.ctx.Done() // the record lives for ever
		return false
	}
	h := heart{inc: inc, answers: make(chan answer, maxUnanswered), sent: inc.sent()}
	h.beat = time.NewTimer(h.untilBeat())
	defer h.beat.Stop()
	var sending sync.WaitGroup
	defer sending.Wait()
	for over := false; !over; {
		select {
		case <-inc.ctx.Done():
			over = true
		case <-h.beat.C:
			over = h.due(&sending)
		case a := <-h.answers:
			over = h.answered(a)
		}
	}
	return h.confirmed
}

// due sends a heartbeat, unless too many have no answer. It reports whether the incarnation
// is over.
func (h *heart) due(sending *sync.WaitGroup) (over bool) {
	inc := h.inc
	if h.late {
		h.cannotRenew(fmt.Errorf("no answer to a heartbeat for %v", inc.clock().since(h.sent).Round(time.Millisecond)))
	}
	if why := inc.fenced(); why != nil {
		inc.end(why)
		return true
	}
	if h.unanswered < maxUnanswered {
		now := inc.clock()
		sending.Go(func() { h.answers <- inc.renew(now) })
		h.sent, h.late = now, true
		h.unanswered++
	}
	h.beat.Reset(inc.untilNext())
	return false
}

// renew sends one heartbeat.
func (inc *incarnation) renew(sent moment) answer {
	ctx, cancel := context.WithTimeout(inc.ctx, window(inc.ttl()))
	defer cancel()
	began := time.Now()
	ttl, err := inc.session.Renew(ctx)
	if err == nil {
		inc.stats.renewed(time.Since(began))
	}
	return answer{sent, ttl, err}
}

// answered moves the deadline as an answer says, and sets when the next heartbeat is due. It
// reports whether the incarnation is over.
func (h *heart) answered(a answer) (over bool) {
	inc := h.inc
	h.unanswered--
	h.late = h.late && a.sent != h.sent
	succeeded := a.err == nil
	switch {
	case inc.ctx.Err() != nil:
		return true
	case succeeded:
		inc.extend(a.sent, a.ttl)
		h.confirmed = true
		inc.record.renewed.Store(true)
		inc.record.compare()
		if inc.view.Load().inc == inc {
			inc.coverage.watchRecords(inc.roster)
		}
	case isFinal(a.err):
		inc.end(a.err)
		return true
	case inc.renewedSince(a.sent):
		succeeded = true // a later one has
	default:
		h.cannotRenew(a.err)
	}
	if why := inc.fenced(); why != nil {
		inc.end(why)
		return true
	}
	switch {
	case !succeeded:
		h.beat.Reset(inc.untilAgain())
	case h.unanswered == 0:
		h.beat.Reset(h.untilBeat())
	}
	return false
}

func (h *heart) cannotRenew(err error) {
	h.inc.note(err)
	h.inc.stats.failed(RegistryRenew, err)
	h.inc.report(zap.WarnLevel, "cannot renew the record, will keep trying",
		zap.Error(err), zap.Time("deadline", h.inc.view.Load().now().Deadline))
}

// untilBeat returns how long to wait before the next heartbeat when all are answered: an
// eighth to a sixth of the record's life after the last was sent, so that there are several
// within a window. Not past the deadline.
func (h *heart) untilBeat() time.Duration {
	return h.inc.halfWay(h.inc.spread(h.inc.ttl()/8) - h.inc.clock().since(h.sent))
}

// untilNext returns how long the heartbeat that was just sent has until another one is
// sent beside it: a tenth of the record's life, and some. Of three servers two may hang,
// and the third is still asked in time.
func (inc *incarnation) untilNext() time.Duration {
	return max(inc.beforeDeadline(inc.spread(inc.ttl()/10)), leastBeat)
}

// untilAgain returns how long to wait after a heartbeat that has failed.
func (inc *incarnation) untilAgain() time.Duration { return inc.halfWay(inc.spread(inc.ttl() / 40)) }

// spread adds up to a third, so that instances that began together do not ask together.
func (inc *incarnation) spread(d time.Duration) time.Duration {
	return d + inc.chance.Below(d/3+1)
}

// halfWay shortens a wait that is to end well before the deadline. A beat at the deadline
// would come too late; half the way is soon no way at all.
func (inc *incarnation) halfWay(d time.Duration) time.Duration {
	return max(min(d, inc.beforeDeadline(2*d)/2), leastBeat)
}

const leastBeat = time.Millisecond
