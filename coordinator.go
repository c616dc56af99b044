package libcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
)

const (
	// An instance that steps in for a lost coordinator first leaves rankPause to each
	// member before it in the plan, so that not all try at once.
	rankPause    = 2 * time.Millisecond
	longestPause = 200 * time.Millisecond

	// After a plan is committed, the next plan waits a little for each member that has to
	// learn of it. Instances that join meanwhile are all in the next plan.
	commitPause = 100 * time.Microsecond
)

// coordinator makes an incarnation coordinate the cluster while nobody else does. The
// balancer tells it what is known of that; ping awaits it.
type coordinator struct {
	inc     *incarnation
	running sync.WaitGroup

	mu   sync.Mutex // guards what follows
	may  bool       // nobody else does, as far as the registry has told
	runs bool       // the goroutine
}

// heard takes in what the coordinator says. This incarnation tries to coordinate if no
// instance does. So too if it is the coordinator and does not know it, because an answer was
// lost or a request was late. The balancer calls it.
func (c *coordinator) heard(says []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, who, _ := strings.Cut(firstLine(says), "\t")
	c.may = says == nil || who == c.inc.id()
	if c.may && !c.runs {
		c.runs = true
		c.running.Go(c.coordinate)
	}
}

// firstLine is that of what this coordinator says: its mode and its incarnation.
func (c *coordinator) firstLine() string { return c.inc.cfg.scheme().String() + "\t" + c.inc.id() }

// coordinate is the goroutine. It ends with the incarnation, or when another instance
// coordinates.
func (c *coordinator) coordinate() {
	inc := c.inc
	sleep(inc.ctx, c.rank())
	again := inc.newRetry()
	for c.goesOn() {
		if c.claim() {
			c.makePlans()
		}
		if !c.goesOn() {
			return
		}
		again.wait(inc.ctx)
	}
}

// goesOn reports whether the goroutine goes on. If not, it must end at once, since from then
// on the balancer may start another one.
func (c *coordinator) goesOn() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.runs = c.may && c.inc.ctx.Err() == nil
	return c.runs
}

// rank is how long this instance waits so that members before it in the plan can
// coordinate.
func (c *coordinator) rank() time.Duration {
	v, chance := c.inc.view.Load(), c.inc.chance
	if v.plan == nil || v.inc != c.inc {
		return chance.Below(rankPause)
	}
	before := 0
	for _, p := range v.plan.assignments() {
		if p.ID == c.inc.cfg.ID {
			break
		}
		before++
	}
	return min(time.Duration(before)*rankPause+chance.Below(rankPause), longestPause)
}

// claim makes this incarnation the coordinator, if it can.
func (c *coordinator) claim() bool {
	inc := c.inc
	ctx, cancel := context.WithTimeout(inc.ctx, errandTimeout)
	defer cancel()
	claimed, err := inc.planner().Claim(ctx, []byte(c.firstLine()))
	if err != nil {
		c.trouble(err)
	}
	if !claimed {
		return false
	}
	survey, err := inc.planner().Survey(ctx, 0)
	if err != nil {
		c.trouble(err)
		return false // not known yet: whether this incarnation may coordinate
	}
	inc.coverage.watchSurvey(survey)
	inc.reportForeign(survey.foreign, true)
	if err := fits(inc.cfg.scheme(), inc.id(), !isClosed(inc.ready), survey); err != nil {
		// The record has gone, or others were there first and have lost their
		// coordinator just now. With our record goes our claim.
		if errors.As(err, new(*ModeError)) {
			inc.refuse(err)
		}
		inc.end(err)
		return false
	}
	inc.log.Debug("coordinates the cluster")
	return true
}

// trouble logs err, ends the incarnation if err is final, and reports whether to retry.
func (c *coordinator) trouble(err error) bool {
	inc := c.inc
	switch {
	case inc.ctx.Err() != nil:
		return false
	case isFinal(err):
		inc.end(err)
		return false
	}
	inc.note(err)
	inc.stats.failed(RegistryCoordinate, err)
	inc.report(zap.WarnLevel, "cannot coordinate the cluster yet, will keep trying", zap.Error(err))
	return true
}

// fits returns an error if an incarnation of this mode may not coordinate: if its record is
// not there, or if an older member has another mode. While the instance joins, any member
// counts as older, because a record that the instance took over looks older than it is.
func fits(own scheme, incarnation string, joining bool, survey Survey) error {
	members := survey.sorted()
	i := slices.IndexFunc(members, func(m Recorded) bool { return m.Incarnation == incarnation })
	if i < 0 {
		return fmt.Errorf("%w: it was not there when this instance was to coordinate", ErrRecordGone)
	}
	for _, m := range members {
		there := m.Incarnation != "" && !m.reserved
		if there && m.plans.scheme != own && (joining || m.Since < members[i].Since) {
			return own.refuses(m.plans.scheme)
		}
	}
	return nil
}
