package dirstore

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/kv"
)

func TestQuietIsCountedBetweenTwoReadings(t *testing.T) {
	o, start := observer{}, time.Now()
	at := func(s int) time.Time { return start.Add(time.Duration(s) * time.Second) }
	quiet, lives := o.saw(1, "a", at(0), at(3))
	require.Zero(t, quiet)
	require.False(t, lives, "it may have been dead for long")
	quiet, lives = o.saw(1, "a", at(10), at(12))
	require.Equal(t, 7*time.Second, quiet, "from the end of the first reading to the beginning of the last")
	require.False(t, lives)
	quiet, lives = o.saw(1, "b", at(13), at(14))
	require.Zero(t, quiet)
	require.True(t, lives)
	quiet, lives = o.saw(1, "b", at(20), at(20))
	require.Equal(t, 6*time.Second, quiet)
	require.True(t, lives)
	o.forget(&document{})
	require.Empty(t, o)
}

func TestRoundGoesDownwardsAndEndsWithTheOwnLease(t *testing.T) {
	d := &document{leases: map[kv.Owner]lease{10: {}, 20: {}, 30: {}, 40: {}}}
	require.Equal(t, []kv.Owner{20, 10, 40, 30}, round(d, 30))
	require.Equal(t, []kv.Owner{40, 30, 20, 10}, round(d, 10))
	require.Equal(t, []kv.Owner{20, 10, 40, 30}, round(d, 25), "an owner without a lease")
	require.Empty(t, round(&document{}, 1))
}
