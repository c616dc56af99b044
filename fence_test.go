package libcluster

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// fakeClock stands until it is moved.
type fakeClock struct {
	start time.Time
	ahead time.Duration
}

func (c *fakeClock) now() moment                   { return c.at(c.ahead) }
func (c *fakeClock) at(ahead time.Duration) moment { return moment{mono: c.start.Add(ahead)} }
func (c *fakeClock) fence() *fence                 { return newFence(c.now, window, c.at(0), DefaultTTL) }

// The renewal was sent in time and is answered late. Its own deadline has not passed, but
// a reader has been told that the incarnation is fenced.
func TestALateSuccessOpensNoFenceThatWasFoundClosed(t *testing.T) {
	clock := &fakeClock{start: time.Now()}
	f := clock.fence()
	clock.ahead = window(DefaultTTL)
	require.ErrorIs(t, f.fenced(), ErrDeadlinePassed)
	f.extend(clock.at(window(DefaultTTL)-time.Second), DefaultTTL)
	require.ErrorIs(t, f.fenced(), ErrDeadlinePassed)
}

func TestOfSeveralReasonsTheFirstCountsUnlessItIsExplained(t *testing.T) {
	clock := &fakeClock{start: time.Now()}
	f := clock.fence()
	f.close(ErrRecordGone)
	f.close(ErrStuck)
	clock.ahead = time.Hour
	require.ErrorIs(t, f.fenced(), ErrRecordGone)
	f.explain(ErrInstanceTaken)
	require.ErrorIs(t, f.fenced(), ErrInstanceTaken)
	_, err := f.until()
	require.ErrorIs(t, err, ErrInstanceTaken)
}

// A fence is what a plain reckoning of its renewals says.
func TestAFenceIsOpenForAWindowFromTheLatestRenewal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		clock := &fakeClock{start: time.Now()}
		f := clock.fence()
		latest, closed := time.Duration(0), false
		for range rapid.IntRange(1, 30).Draw(t, "steps") {
			clock.ahead += time.Duration(rapid.Int64Range(0, int64(window(DefaultTTL))).Draw(t, "passes"))
			now := clock.ahead
			if now-latest >= window(DefaultTTL) {
				closed = true
			}
			sent := now - time.Duration(rapid.Int64Range(0, int64(now)).Draw(t, "ago"))
			switch rapid.SampledFrom([]string{"look", "renew", "ask"}).Draw(t, "step") {
			case "look":
				require.Equal(t, closed, errors.Is(f.fenced(), ErrDeadlinePassed))
			case "renew":
				f.extend(clock.at(sent), DefaultTTL)
				if !closed {
					latest = max(latest, sent)
					closed = now-latest >= window(DefaultTTL)
				}
			case "ask":
				until, err := f.until()
				require.Equal(t, closed, err != nil)
				if !closed {
					require.Equal(t, clock.at(latest+window(DefaultTTL)).mono, until)
				}
			}
		}
	})
}

// A reader finds the deadline passed while a renewal is being noted that was found to be in
// time.
func TestAFenceThatIsClosedWhileItIsExtendedStaysClosed(t *testing.T) {
	clock := &fakeClock{start: time.Now()}
	var meanwhile func()
	f := newFence(func() moment {
		read, then := clock.now(), meanwhile
		if meanwhile = nil; then != nil {
			then()
		}
		return read
	}, window, clock.at(0), DefaultTTL)
	meanwhile = func() {
		clock.ahead = window(DefaultTTL)
		require.ErrorIs(t, f.fenced(), ErrDeadlinePassed)
	}
	f.extend(clock.at(time.Second), DefaultTTL)
	require.ErrorIs(t, f.fenced(), ErrDeadlinePassed)
}
