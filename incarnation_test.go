package libcluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The renewal was sent in time and is answered late. Its own deadline has not passed, but
// a reader has been told that the incarnation is fenced.
func TestALateSuccessRevivesNoIncarnationThatWasFenced(t *testing.T) {
	c, err := New(Config{Key: "mailer", ID: "node1", Registry: Static(0, 1)})
	require.NoError(t, err)
	start := time.Now()
	at := func(d time.Duration) moment { return moment{mono: start.Add(d)} }
	clock := at(0)
	c.clock = func() moment { return clock }
	s := newStay(c, nil)
	defer s.cancel()
	inc := newIncarnation(s, nil, at(0), DefaultTTL, Member{})

	sent := at(window(DefaultTTL) - time.Second)
	clock = at(window(DefaultTTL))
	require.ErrorIs(t, inc.fenced(), ErrDeadlinePassed)
	inc.extend(sent, DefaultTTL)
	require.ErrorIs(t, inc.fenced(), ErrDeadlinePassed)
}
