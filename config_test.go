package libcluster_test

import (
	"context"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
)

// checkingRegistry remembers the registration that New entered with. It can't be joined.
type checkingRegistry struct {
	asked libcluster.Registration
	err   error
}

func (c *checkingRegistry) Capabilities() libcluster.Capabilities {
	return libcluster.Capabilities{Expires: true, Plans: true}
}

func (c *checkingRegistry) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	c.asked = r
	return nil, c.err
}

func TestConfigThatSaysOnlyItsKeyGetsTheDefaults(t *testing.T) {
	registry := &checkingRegistry{}
	c, err := libcluster.New(libcluster.Config{Key: "mailer", Registry: registry})
	require.NoError(t, err)
	r := registry.asked
	require.NotNil(t, r.Logger)
	r.Logger = nil
	require.Equal(t, libcluster.Registration{
		Key: "mailer", Env: "production", TTL: 10 * time.Second,
		Member: libcluster.Member{ID: c.ID(), Workers: 1},
	}, r)
	require.Equal(t, libcluster.State{Index: -1, Workers: 1}, c.State())
}

func TestDefaultIDIsARandomUUIDAsHexDigits(t *testing.T) {
	known := map[string]bool{}
	for range 100 {
		c, err := libcluster.New(libcluster.Config{Key: "mailer", Registry: libcluster.Static(0, 1)})
		require.NoError(t, err)
		require.Regexp(t, "^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$", c.ID(), "not a UUID of version 4")
		require.NotContains(t, known, c.ID())
		known[c.ID()] = true
	}
}

func TestWhatIsConfiguredReachesTheRegistry(t *testing.T) {
	registry := &checkingRegistry{}
	core, logs := observer.New(zap.InfoLevel)
	_, err := libcluster.New(libcluster.Config{
		Key: "k", Env: "e", Partition: "p", ID: "i", Workers: 3, Address: "a", Version: "v",
		Metadata: map[string]string{"m": "d"}, Passive: true, Registry: registry, TTL: time.Minute, Logger: zap.New(core),
	})
	require.NoError(t, err)
	registry.asked.Logger.Info("line")
	require.NoError(t, registry.asked.Logger.Sync())
	require.Equal(t, 1, logs.Len())
	registry.asked.Logger = nil
	require.Equal(t, libcluster.Registration{
		Key: "k", Env: "e", Partition: "p", Passive: true, TTL: time.Minute,
		Member: libcluster.Member{
			ID: "i", Workers: 3, Address: "a", Version: "v", Metadata: map[string]string{"m": "d"},
		},
	}, registry.asked)
}

// brokenConfig is a Config with one field that breaks a rule.
type brokenConfig struct {
	name  string
	field string // the one that is broken
	named string // the one that the error names, if it is another
	set   func(*libcluster.Config)
	says  []string // the value, and the rule
}

func brokenConfigs() []brokenConfig {
	configs := []brokenConfig{
		{
			"no key", "Key", "", func(c *libcluster.Config) { c.Key = "" },
			[]string{`""`, "must not be empty"},
		},
		{
			"no registry", "Registry", "", func(c *libcluster.Config) { c.Registry = nil },
			[]string{"is required", "Etcd(", "Static(0, 1)"},
		},
		{
			"no registry in a mode with a plan", "Registry", "",
			func(c *libcluster.Config) { c.Mode, c.Registry = libcluster.ModeExclusive, nil },
			[]string{"is required", "Etcd("},
		},
		{
			"negative workers", "Workers", "", func(c *libcluster.Config) { c.Workers = -1 },
			[]string{"-1", "must be 1 to 2147483647"},
		},
		{
			"one worker too many", "Workers", "", func(c *libcluster.Config) { c.Workers = libcluster.MaxWorkers + 1 },
			[]string{"2147483648", "must be 1 to 2147483647"},
		},
		{
			"all the workers that an int can count", "Workers", "", func(c *libcluster.Config) { c.Workers = math.MaxInt },
			[]string{"must be 1 to 2147483647"},
		},
		{
			"TTL too short", "TTL", "", func(c *libcluster.Config) { c.TTL = time.Second - 1 },
			[]string{"999.999999ms", "must be 1s to 24h"},
		},
		{
			"negative TTL", "TTL", "", func(c *libcluster.Config) { c.TTL = -10 * time.Second },
			[]string{"-10s", "must be 1s to 24h"},
		},
		{
			"TTL too long", "TTL", "", func(c *libcluster.Config) { c.TTL = 24*time.Hour + 1 },
			[]string{"24h0m0.000000001s", "must be 1s to 24h"},
		},
		{
			"no such way to sit out an outage", "Outage", "", func(c *libcluster.Config) { c.Outage = 2 },
			[]string{"2", "must be FenceOnOutage or KeepOnOutage"},
		},
		{
			"too much metadata", "Metadata", "",
			func(c *libcluster.Config) { c.Metadata = map[string]string{"a": strings.Repeat("x", maxRecord)} },
			[]string{"65590 bytes", "at most 65536"},
		},
		{
			"too long an address", "Address", "Metadata",
			func(c *libcluster.Config) { c.Address = addressOfRecord(maxRecord + 1) },
			[]string{"Address", "65537 bytes", "at most 65536"},
		},
		{
			"too long a version", "Version", "Metadata",
			func(c *libcluster.Config) { c.Version = strings.Repeat("x", maxRecord) },
			[]string{"Version", "at most 65536"},
		},
		{
			"address that is not UTF-8", "Address", "", func(c *libcluster.Config) { c.Address = "a\xff" },
			[]string{`"a\xff"`, "must be valid UTF-8"},
		},
		{
			"version that is not UTF-8", "Version", "", func(c *libcluster.Config) { c.Version = "v\xff" },
			[]string{`"v\xff"`, "must be valid UTF-8"},
		},
		{
			"metadata that is not UTF-8", "Metadata", "",
			func(c *libcluster.Config) { c.Metadata = map[string]string{"zone": "e\xff"} },
			[]string{`"zone"`, `"e\xff"`, "must be valid UTF-8"},
		},
		{
			"metadata under a name that is not UTF-8", "Metadata", "",
			func(c *libcluster.Config) { c.Metadata = map[string]string{"z\xff": "east"} },
			[]string{`"z\xff"`, "must be valid UTF-8"},
		},
		{
			"unknown mode", "Mode", "", func(c *libcluster.Config) { c.Mode = 4 },
			[]string{"Mode 4", "ModeDirect, ModePlanned, ModeExclusive or ModeCooperative"},
		},
		{
			"keeping on in exclusive mode", "Mode", "Outage",
			func(c *libcluster.Config) { c.Mode, c.Outage = libcluster.ModeExclusive, libcluster.KeepOnOutage },
			[]string{"exclusive", "must be FenceOnOutage"},
		},
		{
			"keeping on in cooperative mode", "Mode", "Outage",
			func(c *libcluster.Config) { c.Mode, c.Outage = libcluster.ModeCooperative, libcluster.KeepOnOutage },
			[]string{"cooperative", "must be FenceOnOutage"},
		},
		{
			"partitions of another mode", "Partitions", "", func(c *libcluster.Config) { c.Partitions = 8 },
			[]string{"Partitions 8", "mode direct has none", "use ModeCooperative"},
		},
		{
			"too many partitions", "Partitions", "",
			func(c *libcluster.Config) {
				c.Mode, c.Partitions = libcluster.ModeCooperative, libcluster.MaxPartitions+1
			},
			[]string{"Partitions 65537", "must be 1 to 65536"},
		},
		{
			"fewer partitions than none", "Partitions", "",
			func(c *libcluster.Config) { c.Mode, c.Partitions = libcluster.ModeCooperative, -1 },
			[]string{"Partitions -1", "must be 1 to 65536"},
		},
		{
			"grants of another mode", "OnGranted", "",
			func(c *libcluster.Config) { c.OnGranted = func([]libcluster.Partition) {} },
			[]string{"OnGranted: mode direct has no partitions", "use ModeCooperative"},
		},
		{
			"revocations of another mode", "OnRevoked", "",
			func(c *libcluster.Config) { c.OnRevoked = func([]libcluster.Partition) {} },
			[]string{"OnRevoked: mode direct has no partitions"},
		},
		{
			"losses of another mode", "OnLost", "",
			func(c *libcluster.Config) { c.OnLost = func([]libcluster.Partition) {} },
			[]string{"OnLost: mode direct has no partitions"},
		},
		{
			"a plan for a static cluster", "Mode", "",
			func(c *libcluster.Config) { c.Mode, c.Registry = libcluster.ModePlanned, libcluster.Static(0, 1) },
			[]string{"cannot keep a plan", "must be ModeDirect"},
		},
		{
			"too short a time to reclaim an ID", "ReclaimAfter", "",
			func(c *libcluster.Config) { c.ReclaimAfter = time.Millisecond },
			[]string{"ReclaimAfter 1ms", "must be 1s at least"},
		},
		{
			"negative drain timeout", "DrainTimeout", "",
			func(c *libcluster.Config) { c.DrainTimeout = -time.Second },
			[]string{"DrainTimeout -1s", "must be positive"},
		},
		{
			"giving up before it begins", "GiveUpAfter", "",
			func(c *libcluster.Config) { c.GiveUpAfter = -time.Second },
			[]string{"GiveUpAfter -1s", "must be positive, or 0 for never"},
		},
		{
			"place outside the total", "Registry", "",
			func(c *libcluster.Config) { c.Registry = libcluster.Static(3, 3) },
			[]string{"index 3", "0 to 2"},
		},
		{
			"etcd nowhere", "Registry", "", func(c *libcluster.Config) { c.Registry = libcluster.Etcd() },
			[]string{"no endpoints", "at least one URL"},
		},
	}
	for _, field := range []string{"Key", "Env", "Partition", "ID"} {
		for _, c := range []struct {
			name, value string
			says        []string
		}{
			{"slash", "a/b", []string{`"a/b"`, "must not contain '/'"}},
			{"control character", "a\tb", []string{`"a\tb"`, "must be printable", `'\t'`}},
			{"invisible character", "a\u200bb", []string{`"a\u200bb"`, "must be printable"}},
			{"invalid UTF-8", "a\xffb", []string{`"a\xffb"`, "must be valid UTF-8"}},
			{"256 bytes", strings.Repeat("é", 128), []string{`"éé`, "256 bytes", "must be at most 255"}},
		} {
			set := func(config *libcluster.Config) { reflect.ValueOf(config).Elem().FieldByName(field).SetString(c.value) }
			configs = append(configs, brokenConfig{c.name + " in " + field, field, "", set, c.says})
		}
	}
	return configs
}

// addressOfRecord returns an address that makes a member's record n bytes long, when it
// says that the place is kept.
func addressOfRecord(n int) string {
	short := libcluster.Member{Workers: libcluster.MaxWorkers, Address: "x"}.Record()
	return strings.Repeat("x", n-len(short)+1-len(`,"kept":true`))
}

func TestBrokenFieldIsNamedWithItsValueAndRule(t *testing.T) {
	for _, broken := range brokenConfigs() {
		t.Run(broken.name, func(t *testing.T) {
			cfg := libcluster.Config{Key: "mailer", Registry: libcluster.Static(0, 1)}
			broken.set(&cfg)
			c, err := libcluster.New(cfg)
			require.Nil(t, c)
			var configError *libcluster.ConfigError
			require.ErrorAs(t, err, &configError)
			field := broken.field
			if broken.named != "" {
				field = broken.named
			}
			require.Equal(t, field, configError.Field)
			require.ErrorContains(t, err, "libcluster: Config."+field)
			for _, part := range broken.says {
				require.ErrorContains(t, err, part)
			}
			require.Less(t, len(err.Error()), 300, "a message for people")
		})
	}
}

func TestEveryFieldOfConfigHasARuleOrAReasonForNone(t *testing.T) {
	withoutRule := map[string]string{
		"Passive":         "either will do",
		"WatchMembers":    "either will do",
		"CoverageTimeout": "a negative one is never",
		"OnRebalance":     "nil calls nobody",
		"OnStuck":         "nil calls nobody",
		"OnPrimary":       "nil calls nobody",
		"OnMembers":       "nil calls nobody",
		"OnExit":          "nil calls nobody",
		"Superseded":      "nil: never",
		"Logger":          "nil is the program's",
	}
	broken := map[string]bool{}
	for _, c := range brokenConfigs() {
		broken[c.field] = true
	}
	fields := reflect.VisibleFields(reflect.TypeFor[libcluster.Config]())
	for _, field := range fields {
		reason := withoutRule[field.Name]
		require.True(t, broken[field.Name] != (reason != ""),
			"Config.%s: needs a row in brokenConfigs, or a reason here why any value will do", field.Name)
	}
	require.Len(t, fields, len(broken)+len(withoutRule), "a field that Config has no more")
}

func TestConfigAtTheEdgeOfItsRulesIsAccepted(t *testing.T) {
	for name, cfg := range map[string]libcluster.Config{
		"names of 255 bytes": {
			Key: strings.Repeat("k", 255), Env: strings.Repeat("é", 127) + "e",
			Partition: strings.Repeat("p", 255), ID: strings.Repeat("i", 255),
		},
		"spaces and dots":      {Key: "my app", Env: "v1.2", ID: "host 1.example"},
		"the shortest TTL":     {Key: "k", TTL: time.Second},
		"the longest TTL":      {Key: "k", TTL: 24 * time.Hour},
		"keeping on":           {Key: "k", Outage: libcluster.KeepOnOutage},
		"all the workers":      {Key: "k", Workers: libcluster.MaxWorkers, Registry: libcluster.Static(0, libcluster.MaxWorkers)},
		"the largest record":   {Key: "k", Address: addressOfRecord(maxRecord)},
		"metadata that is any": {Key: "k", Metadata: map[string]string{"": "", "a/b": "\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			if cfg.Registry == nil {
				cfg.Registry = &checkingRegistry{}
			}
			_, err := libcluster.New(cfg)
			require.NoError(t, err)
		})
	}
}

func TestErrorOfTheRegistryIsKept(t *testing.T) {
	reason := errors.New("no such place")
	_, err := libcluster.New(libcluster.Config{Key: "k", Registry: &checkingRegistry{err: reason}})
	require.ErrorIs(t, err, reason)
}

func TestConfigIsCopiedByNew(t *testing.T) {
	metadata := map[string]string{"zone": "east"}
	cfg := libcluster.Config{Key: "k", ID: "a", Metadata: metadata, Registry: libcluster.Static(0, 1)}
	c, err := libcluster.New(cfg)
	require.NoError(t, err)
	cfg.ID, cfg.Workers = "b", 9
	metadata["zone"] = "west"
	metadata["more"] = "text"
	require.NoError(t, c.Join(t.Context()))
	want := []libcluster.Assignment{{Member: libcluster.Member{
		ID: "a", Workers: 1, Metadata: map[string]string{"zone": "east"},
	}}}
	members := c.Members()
	require.Equal(t, want, members)

	members[0].Metadata["zone"] = "north"
	require.Equal(t, want, c.Members(), "the list that Members returned was not the caller's own")
	require.NoError(t, c.Leave(t.Context()))
}

// Reading a map that somebody else writes ends the process.
func TestMetadataIsTheCallersAgainAfterNew(t *testing.T) {
	metadata := map[string]string{"zone": "east"}
	c, err := libcluster.New(libcluster.Config{Key: "k", Metadata: metadata, Registry: libcluster.Static(0, 1)})
	require.NoError(t, err)
	writing, stop := context.WithCancel(t.Context())
	written := make(chan struct{})
	go func() {
		defer close(written)
		for i := 0; writing.Err() == nil; i++ {
			metadata[strconv.Itoa(i%100)] = "text"
		}
	}()
	for range 200 {
		require.NoError(t, c.Join(t.Context()))
		require.NoError(t, c.Leave(t.Context()))
	}
	stop()
	<-written
}

func TestSetWorkersKeepsToTheRuleOfWorkers(t *testing.T) {
	c, err := libcluster.New(libcluster.Config{Key: "k", Registry: libcluster.Static(0, 1)})
	require.NoError(t, err)
	for _, workers := range []int{0, -1, libcluster.MaxWorkers + 1, math.MinInt} {
		err := c.SetWorkers(t.Context(), workers)
		var configError *libcluster.ConfigError
		require.ErrorAs(t, err, &configError)
		require.Equal(t, "Workers", configError.Field)
		require.ErrorContains(t, err, "must be 1 to 2147483647")
	}
}
