package gossip_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
	"github.com/libcluster/libcluster/internal/testhost"
)

// never is how often the nodes of some tests probe one another, so that memberlist notices
// nothing by itself.
const never = time.Hour

// kept is a registry that keeps the sessions, by ID.
type kept struct {
	gossip.Config
	sessions *sync.Map
}

type keptMembership struct {
	libcluster.Membership
	sessions *sync.Map
}

func (k kept) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	m, err := k.Config.Enter(r)
	return keptMembership{m, k.sessions}, err
}

func (k keptMembership) Join(ctx context.Context, m libcluster.Member) (libcluster.Session, time.Duration, error) {
	s, ttl, err := k.Membership.Join(ctx, m)
	if err == nil {
		k.sessions.Store(m.ID, s)
	}
	return s, ttl, err
}

func (k kept) session(id string) libcluster.Session {
	s, _ := k.sessions.Load(id)
	return s.(libcluster.Session)
}

func keep(config gossip.Config) kept { return kept{config, new(sync.Map)} }

func (k kept) given(c *libcluster.Config) { c.Registry = k }

// at returns a registry that listens at an address.
func at(address string, seeds []string, world gossip.World) gossip.Config {
	return gossip.Config{Bind: address, Seeds: seeds}.In(world)
}

func TestAllInstancesMayHaveTheSameConfig(t *testing.T) {
	t.Parallel()
	config := gossip.Config{Seeds: addresses(t, 1)}.In(gossip.World{Probe: calm})
	a, b, c := joined(t, "a", config), joined(t, "b", config), joined(t, "c", config)
	for _, i := range []*libcluster.Cluster{a, b, c} {
		sees(t, i, "a", "b", "c")
	}
	require.Zero(t, a.State().Generation, "nobody agrees on a number")
	require.True(t, a.State().Deadline.IsZero(), "an instance that is cut off goes on")
}

// Each knows only the next, and that of the first two is not there yet when they begin.
func TestThreeWithSeedsInARingFindOneAnother(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		where := net.addresses(3)
		var all []*libcluster.Cluster
		for n, address := range where {
			next := (n + 1) % len(where)
			all = append(all, joined(t, fmt.Sprint(n), at(address, where[next:next+1], net.world())))
		}
		for _, c := range all {
			sees(t, c, "0", "1", "2")
		}
	})
}

func TestOtherModesAreRefused(t *testing.T) {
	t.Parallel()
	_, err := libcluster.New(libcluster.Config{
		Key: "k", Mode: libcluster.ModePlanned, Registry: gossip.Config{Bind: "127.0.0.1:0"},
	})
	require.ErrorIs(t, err, libcluster.ErrCannotPlan)
}

func TestChangesAreSeenAtOnceByAll(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		config := gossip.Config{Seeds: net.addresses(1)}.In(gossip.World{Listen: net.listen, Probe: never})
		a, b := joined(t, "a", config), joined(t, "b", config)
		c := newCluster(t, "c", config)
		join(t, c)
		sees(t, a, "a", "b", "c")
		began := time.Now()
		require.NoError(t, c.SetWorkers(t.Context(), 3), "it returns when all know")
		require.Equal(t, 2*latency, time.Since(began), "a message and its answer")
		synctest.Wait() // the instance that has heard of it works out its total
		require.Equal(t, 5, a.State().Total)
		leave(t, c)
		require.Less(t, time.Since(began), time.Second, "nobody was waited for in vain")
		synctest.Wait()
		require.Equal(t, []string{"a", "b"}, members(a), "Leave returns when all know")
		sees(t, b, "a", "b")
	})
}

func TestLargeRecordsReachEverybody(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		config := net.one()
		largest := func(c *libcluster.Config) {
			c.Metadata = map[string]string{"text": strings.Repeat(c.ID, 64<<10-100)}
		}
		a, b := joined(t, "a", config, largest), joined(t, "b", config, largest)
		c := joined(t, "c", config)
		everybodySees := func(id, letter string) {
			t.Helper()
			for _, by := range []*libcluster.Cluster{a, b, c} {
				eventually(t, "the metadata of "+id, func() bool {
					all := by.Members()
					n := slices.IndexFunc(all, func(m libcluster.Assignment) bool { return m.ID == id })
					return n >= 0 && all[n].Metadata["text"] == strings.Repeat(letter, 64<<10-100)
				})
			}
		}
		everybodySees("a", "a")
		everybodySees("b", "b")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, c.SetMetadata(ctx, map[string]string{"text": strings.Repeat("x", 64<<10-100)}))
		everybodySees("c", "x")
	})
}

func TestMinorityOfExpectIsFencedByAsking(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		where := net.addresses(5)
		var all []*libcluster.Cluster
		var joining sync.WaitGroup
		for n, address := range where {
			// The list of members never changes here, so it can have no part in this.
			config := at(address, where[:2], gossip.World{Listen: net.listen, Probe: never})
			config.Expect = 5
			c := newCluster(t, fmt.Sprint(n), config, func(c *libcluster.Config) { c.TTL = 2 * time.Second })
			all = append(all, c)
			joining.Go(func() { join(t, c) })
			if n == 1 {
				time.Sleep(30 * time.Second)
				require.False(t, all[0].State().Active() || c.State().Active(), "two are no majority of 5")
			}
		}
		joining.Wait()
		for _, c := range all {
			sees(t, c, "0", "1", "2", "3", "4")
			eventually(t, "a deadline", func() bool { return !c.State().Deadline.IsZero() })
		}
		net.cut(where[:2]...)
		for _, c := range all[:2] {
			eventually(t, "fenced", func() bool { return !c.State().Active() })
			require.ErrorIs(t, c.Err(), libcluster.ErrDeadlinePassed)
		}
		for _, c := range all[2:] {
			eventually(t, "three are a majority", func() bool { return c.State().Active() && c.Err() == nil })
		}
		net.cut()
		for _, c := range all {
			eventually(t, "active again", func() bool { return c.State().Active() })
		}
	})
}

func TestTooFewSayHowMany(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		core, _ := observer.New(zap.WarnLevel)
		core = zapcore.RegisterHooks(core, func(line zapcore.Entry) error {
			if line.Message == "waiting for a majority of Expect" {
				cancel()
			}
			return nil
		})
		config := gossip.Config{Seeds: net.addresses(1), Expect: 3}.In(net.world())
		m, err := config.Enter(libcluster.Registration{
			Key: "k", Env: "e", Member: libcluster.Member{ID: "a", Workers: 1}, TTL: time.Second, Logger: zap.New(core),
		})
		require.NoError(t, err)
		_, _, err = m.Join(ctx, libcluster.Member{ID: "a", Workers: 1})
		require.ErrorIs(t, err, context.Canceled)
		require.ErrorContains(t, err, "gossip.Config.Expect: of 3 members 2 must be here, and 1 are")
	})
}

func TestMoreMembersThanExpectAreWarnedOfOnce(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		config := net.one()
		instance := func(id string, expect int) (*libcluster.Cluster, func() []observer.LoggedEntry) {
			core, lines := observer.New(zap.WarnLevel)
			config.Expect = expect
			c := joined(t, id, config, func(c *libcluster.Config) { c.Logger = zap.New(core) })
			return c, func() []observer.LoggedEntry {
				return lines.FilterMessageSnippet("more members are here than Expect").All()
			}
		}
		a, few := instance("a", 1)
		require.Empty(t, few())
		b, enough := instance("b", 3)
		sees(t, a, "a", "b")
		eventually(t, "a warning", func() bool { return len(few()) > 0 })
		require.Equal(t, []any{int64(2), int64(1)}, []any{few()[0].ContextMap()["here"], few()[0].ContextMap()["expect"]})
		instance("c", 0)
		for _, i := range []*libcluster.Cluster{a, b} {
			sees(t, i, "a", "b", "c")
		}
		require.Len(t, few(), 1)
		require.Empty(t, enough())
	})
}

func TestTwoClustersNeverMerge(t *testing.T) {
	t.Run("in memory", func(t *testing.T) { inVirtualTime(t, func(t *testing.T, net *network) { neverMerge(t, net.one()) }) })
	t.Run("by sockets", func(t *testing.T) {
		t.Parallel()
		neverMerge(t, gossip.Config{Seeds: addresses(t, 1)}.In(gossip.World{Probe: calm}))
	})
}

func neverMerge(t *testing.T, config gossip.Config) {
	a := joined(t, "a", config)
	core, lines := observer.New(zap.WarnLevel)
	other := joined(t, "b", config, func(c *libcluster.Config) { c.Env, c.Logger = "test", zap.New(core) })
	eventually(t, "the log", func() bool {
		for _, line := range lines.FilterMessage("a seed is not found, will keep looking").All() {
			if strings.Contains(fmt.Sprint(line.ContextMap()["error"]), config.Seeds[0]+" answers, but is of another cluster than gossip-test/test") {
				return true
			}
		}
		return false
	})
	sees(t, a, "a")
	sees(t, other, "b")
}

func secrets(texts ...string) (all []libcluster.Secret) {
	for _, text := range texts {
		all = append(all, libcluster.NewSecret("0123456789abcdef"+text))
	}
	return all
}

func TestWrongSecretIsAnErrorThatSaysSo(t *testing.T) {
	for name, with := range map[string][2][]libcluster.Secret{
		"another":  {secrets("a"), secrets("b")},
		"none":     {secrets("a"), nil},
		"too much": {nil, secrets("b")},
	} {
		t.Run(name, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) {
				began := time.Now()
				wrongSecret(t, net.one(), with)
				require.Less(t, time.Since(began), time.Second, "it is an error at once")
			})
		})
		t.Run(name+", by sockets", func(t *testing.T) {
			t.Parallel()
			wrongSecret(t, gossip.Config{Seeds: addresses(t, 1)}.In(gossip.World{Probe: calm}), with)
		})
	}
}

// wrongSecret has two instances find each other by two secrets.
func wrongSecret(t *testing.T, config gossip.Config, with [2][]libcluster.Secret) {
	config.Secret = with[0]
	a := joined(t, "a", config)
	config.Secret = with[1]
	b := newCluster(t, "b", config)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err := b.Join(ctx)
	for err == nil { // on a busy machine the seed may not have answered in time
		leave(t, b)
		err = b.Join(ctx)
	}
	require.ErrorContains(t, err, "gossip.Config.Secret: an instance answers that has another secret, or none; give all the same")
	require.NotContains(t, fmt.Sprintf("%+v %#v %v", config, config, err), "0123456789abcdef")
	sees(t, a, "a")
}

func TestEmptySecretIsWarnedOfWhereOthersReachThePort(t *testing.T) {
	for address, warnings := range map[string]int{"127.0.0.1:7946": 0, "10.1.2.3:7946": 1} {
		t.Run(address, func(t *testing.T) {
			inVirtualTime(t, func(t *testing.T, net *network) {
				core, lines := observer.New(zap.WarnLevel)
				config := at(address, nil, net.world())
				logs := func(c *libcluster.Config) { c.Logger = zap.New(core) }
				leave(t, joined(t, "a", config, logs))
				require.Equal(t, warnings, lines.FilterMessageSnippet("gossip.Config.Secret is empty").Len())
				config.Secret = secrets("a")
				joined(t, "a", config, logs)
				require.Equal(t, warnings, lines.Len())
			})
		})
	}
}

func TestSecretIsReplacedOneInstanceAfterAnother(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		config := net.one()
		var all []*libcluster.Cluster
		for n, with := range [][]libcluster.Secret{secrets("old", "new"), secrets("new", "old"), secrets("new", "old")} {
			config.Secret = with
			all = append(all, joined(t, fmt.Sprint(n), config))
		}
		for _, c := range all {
			sees(t, c, "0", "1", "2")
		}
	})
}

func TestSeedsAreLookedUpAnew(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		where := net.addresses(2)
		var known atomic.Bool
		var asked atomic.Int32
		lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
			if host == "mailer.test" {
				asked.Add(1)
			}
			if !known.Load() {
				return nil, errors.New("no such host")
			}
			return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
		}
		first := joined(t, "a", at(where[0], nil, net.world()))
		_, port, _ := strings.Cut(where[0], ":")
		world := net.world()
		world.Lookup = lookup
		second := joined(t, "b", at(where[1], []string{"mailer.test:" + port}, world))
		sees(t, second, "b")
		eventually(t, "several look-ups", func() bool { return asked.Load() >= 3 })
		known.Store(true)
		sees(t, first, "a", "b")
		sees(t, second, "a", "b")
	})
}

func TestHalfOfAllPacketsMayBeLost(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		net.set(0.5, 0, 0)
		config := net.one()
		var all []*libcluster.Cluster
		for n := range 4 {
			all = append(all, joined(t, fmt.Sprint(n), config))
		}
		for _, c := range all {
			sees(t, c, "0", "1", "2", "3")
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		require.NoError(t, all[3].SetWorkers(ctx, 7))
		for _, c := range all {
			eventually(t, "the new total", func() bool { return c.State().Total == 10 })
		}
	})
}

func TestWhatWasLostIsFoundByComparing(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		config := gossip.Config{Seeds: net.addresses(1)}.In(gossip.World{Listen: net.listen, Probe: never})
		a, b := joined(t, "a", config), joined(t, "b", config)
		sees(t, a, "a", "b")
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		net.set(1, 0, 0)
		require.NoError(t, b.SetWorkers(ctx, 5), "an instance that cannot be reached holds up nobody")
		require.Equal(t, 2, a.State().Total)
		// No packet ever gets through: two that compare do so by connections.
		eventually(t, "the new total", func() bool { return a.State().Total == 6 })
	})
}

func TestInstanceIsReachedWhereItIsAdvertised(t *testing.T) {
	t.Parallel()
	config := gossip.Config{Bind: ":0", Advertise: "there.test:0", Seeds: addresses(t, 1)}
	lookup := func(context.Context, string) ([]netip.Addr, error) {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
	}
	a := joined(t, "a", at(config.Seeds[0], nil, gossip.World{Probe: calm}))
	b := joined(t, "b", config.In(gossip.World{Lookup: lookup, Probe: calm}))
	sees(t, a, "a", "b")
	sees(t, b, "a", "b")
}

func TestOneThatIsWronglyAccusedStays(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, net *network) {
		registry := keep(gossip.Config{Seeds: net.addresses(1)}.In(gossip.World{Listen: net.listen, Probe: never}))
		a := joined(t, "a", registry.Config, registry.given)
		var gone, back atomic.Bool
		b := joined(t, "b", registry.Config, registry.given, func(c *libcluster.Config) {
			c.OnMembers = func(change libcluster.MembersChange) {
				for _, m := range change.Left {
					gone.Store(gone.Load() || m.ID == "c")
				}
				for _, m := range change.Joined {
					back.Store(gone.Load() && m.ID == "c")
				}
			}
		})
		c := joined(t, "c", registry.Config, registry.given)
		sees(t, b, "a", "b", "c")
		eventually(t, "gone and back", func() bool {
			gossip.Accuse(registry.session("b"), registry.session("c"))
			return gone.Load() && back.Load()
		})
		for _, i := range []*libcluster.Cluster{a, b, c} {
			sees(t, i, "a", "b", "c")
		}
		require.NoError(t, c.Err())
	})
}

func TestPortThatIsTakenIsAnErrorThatSaysSo(t *testing.T) {
	t.Parallel()
	address := testhost.FreeAddress(t)
	joined(t, "a", at(address, nil, gossip.World{}))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := newCluster(t, "b", at(address, nil, gossip.World{})).Join(ctx)
	require.ErrorContains(t, err, fmt.Sprintf("gossip.Config.Bind: cannot listen at %q", address))
	require.ErrorContains(t, err, "each instance needs an address and port of its own")
}

func TestWrongConfigIsAnErrorThatNamesTheField(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]gossip.Config{
		`gossip.Config.Bind: is missing, and there are no Seeds`:                {},
		`gossip.Config.Bind: "7946" must be HOST:PORT`:                          {Bind: "7946"},
		`gossip.Config.Bind: "a:70000": port "70000" must be 1 to 65535`:        {Bind: "a:70000"},
		`gossip.Config.Advertise: is missing, and Bind is "[::]:1"`:             {Bind: "[::]:1"},
		`gossip.Config.Advertise: host "0.0.0.0" is none that others can reach`: {Bind: ":1", Advertise: "0.0.0.0:1"},
		`gossip.Config.Seeds[1]: host "" is none that others can reach`:         {Seeds: []string{"a:1", ":1"}},
		`gossip.Config.Seeds[0]: "a:0": port "0" must be 1 to 65535`:            {Seeds: []string{"a:0"}},
		`gossip.Config.Secret[0]: has 5 bytes; give 16 at least`:                {Bind: ":1", Secret: []libcluster.Secret{libcluster.NewSecret("short")}},
		`gossip.Config.Expect: -1 must be the number of members, or 0`:          {Bind: ":1", Expect: -1},
	} {
		_, err := libcluster.New(libcluster.Config{Key: "k", Registry: config})
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "short")
	}
}
