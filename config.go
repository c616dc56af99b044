package libcluster

import (
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"math"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/internal/outlet"
)

const (
	// DefaultEnv is the environment of a [Config] that names none.
	DefaultEnv = "production"

	// DefaultTTL leaves room for the loss of an etcd leader (election timeout
	// 1 s, 1 to 3.5 s until the next one serves) before anybody is fenced, and
	// gives the place of a crashed instance to the others within some 10 s.
	DefaultTTL = 10 * time.Second

	// DefaultCoverageTimeout is the [Config.CoverageTimeout] of a Config that names
	// none: long enough for an instance that has vanished to be replaced.
	DefaultCoverageTimeout = 30 * time.Second

	// DefaultDrainTimeout is the [Config.DrainTimeout] of a Config that names none.
	DefaultDrainTimeout = time.Minute

	// minReclaim bounds how often an instance whose ID has been taken reads the cluster.
	minReclaim = time.Second
)

// Outage is what an instance does that can't renew its record.
type Outage int

const (
	// FenceOnOutage gives the place up before anybody else can have it.
	FenceOnOutage Outage = iota
	// KeepOnOutage goes on with the last state, for applications that prefer
	// work done twice to work not done: after the TTL the others may do it too.
	// When the registry answers again and the record is still there, nothing
	// has happened; otherwise the instance is fenced then, and rejoins.
	KeepOnOutage
)

// Config says which cluster to join and as what. The zero value of every field
// but Key and Registry is useful. [New] copies it.
type Config struct {
	// Key names the cluster, typically after the application. Required.
	//
	// Key, Partition, Env and ID become segments of a registry's path: each is
	// at most 255 bytes of printable UTF-8 without '/'.
	Key string
	// Env tells environments of one application apart. Default: [DefaultEnv].
	Env string
	// Partition tells clusters of one key and environment apart. Optional.
	Partition string

	// ID is unique to this instance. Members are ordered by it, so an instance
	// that keeps its ID over restarts also keeps its position. An instance
	// that joins with an ID in use takes it over: see [ErrInstanceTaken].
	// Default: a random UUID as 32 hex digits.
	ID string
	// Workers is how many worker indexes this instance wants, 1 to
	// [MaxWorkers]; so is the total of a cluster. Default: 1.
	Workers int
	// Address, Version and Metadata are published with the member for the
	// others to read; see [Member]. Optional; 64 KiB together at most.
	Address  string
	Version  string
	Metadata map[string]string
	// Passive asks to watch the cluster without being a member: the state has
	// the total and index -1, and nothing is written to the registry.
	Passive bool

	// Registry is where the members find one another: [Etcd], [EtcdConfig],
	// [Static], [StaticFromEnv], or any other implementation. Required: a cluster of
	// this instance alone is Static(0, Workers).
	Registry Registry
	// TTL is how long a member that has vanished without leaving keeps its
	// place, 1 s to 24 h. The registry may grant more; etcd rounds up to whole
	// seconds and has a minimum of its own. An instance keeps its place as long
	// as the registry's answers take less than 3/10 of it, waits for a busy
	// processor included; and to survive the loss of an etcd leader takes 8 s. In
	// mode [ModeExclusive] the others wait for a vanished instance by its TTL, and so one of
	// more than 20 times that of the instance that coordinates is refused.
	// Default: [DefaultTTL].
	TTL time.Duration

	// Outage says what to do when the registry does not answer for so long that
	// the record may have expired. Default: [FenceOnOutage], and in mode
	// [ModeExclusive] nothing else.
	Outage Outage

	// Mode is how the members come to their places. Default: [ModeDirect].
	Mode Mode

	// ReclaimAfter is for how long nobody must have had this instance's ID before an
	// instance that has lost it to another one asks for it again; at least 1 s. Until
	// then it is fenced with [ErrInstanceTaken] and looks at the cluster four times in
	// this time, through [Looker]; a look that fails begins the count anew. (Of a
	// registry that cannot be looked at it asks for its ID after this time.) Once it has
	// its ID again it goes on as after any fence, and [Cluster.Run] does not end. A Join
	// that has not returned fails nevertheless.
	// Default: zero, it does not ask again, and Run ends.
	// For two instances with one ID are most often a mistake, which one that comes back
	// by itself would hide; and the supervisor that starts the program anew is told.
	ReclaimAfter time.Duration

	// DrainTimeout is how long, in mode [ModeExclusive], the application may take to
	// stop when it has been told to, while all others wait for it. After that
	// the instance lets its record go, logs it and calls OnStuck; the others go
	// on when its deadline must have passed, and it joins again when the
	// application has stopped. Default: [DefaultDrainTimeout].
	DrainTimeout time.Duration
	// OnStuck is called, in a goroutine of its own, when DrainTimeout has passed
	// with the application still at work. It may end the process, which is the
	// only way to be sure that the work has stopped. Optional.
	OnStuck func()

	// CoverageTimeout is for how long not every worker index may be held by exactly
	// one instance before that is logged at Error, with who is missing or waited
	// for, and again each minute; see [Cluster.Coverage]. One instance does it for
	// all. It looks at least twice a TTL, at what it is told anyway: nothing is read
	// or written for it. Default: [DefaultCoverageTimeout]; negative: never.
	CoverageTimeout time.Duration

	// OnRebalance is told each new state. It is called first before Join
	// returns, then whenever Index, Workers or Total has changed, and a last
	// time with index -1 on leaving; also when a fenced instance learns that
	// its ID is another one's by now, see [Cluster.Err].
	//
	// Calls come from one goroutine, one after another. One that takes long
	// delays only itself and Leave, and in mode [ModeExclusive] the others: when it
	// returns it is called with the newest state, and those between are skipped,
	// except that an index of -1 is always reported before a place in a new
	// incarnation. State and SetWorkers may be called inside. Leave inside would
	// wait for this very call until its context ends: start a goroutine for it. A
	// panic is not recovered.
	//
	// With [Cluster.Run] it is optional: it comes after the function has been
	// stopped and before it is run again.
	OnRebalance func(State)

	// Logger receives what happens: re-balances at Info, the members at
	// Debug, trouble at Warn and Error. Trouble that goes on is logged again after 10 s,
	// and then after twice as long each time, up to 5 minutes; "unsaid" is how often it
	// has come in between. What concerns the whole cluster one instance logs: the
	// coordinator, or in mode direct the first member by ID. Default: silent.
	//
	// Nothing waits for it. Lines are written in their order by a goroutine that lives
	// while there are any; up to 1,000 wait, what comes beyond is dropped, and how much
	// that was is logged when the logger takes up lines again. Leave waits up to a
	// second for the last ones. A logger that hangs for ever costs one goroutine, which
	// stays.
	Logger *zap.Logger
}

// withDefaults returns the configuration with its defaults filled in, or a
// [*ConfigError].
func (c Config) withDefaults() (Config, error) {
	c.Metadata = maps.Clone(c.Metadata)
	if c.Env == "" {
		c.Env = DefaultEnv
	}
	if c.ID == "" {
		id, err := uuid.NewRandom()
		if err != nil {
			return c, &ConfigError{"ID", fmt.Errorf("ID: no random UUID to be had: %w", err)}
		}
		c.ID = hex.EncodeToString(id[:])
	}
	if c.Workers == 0 {
		c.Workers = 1
	}
	if c.TTL == 0 {
		c.TTL = DefaultTTL
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.CoverageTimeout == 0 {
		c.CoverageTimeout = DefaultCoverageTimeout
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	c.Logger = outlet.Logger(c.Logger) // or its sink could hold up a fence
	return c, c.validate()
}

func (c Config) validate() error {
	for _, name := range []struct{ field, value string }{
		{"Key", c.Key}, {"Env", c.Env}, {"Partition", c.Partition}, {"ID", c.ID},
	} {
		if name.field == "Partition" && name.value == "" {
			continue
		}
		if err := checkName(name.field, name.value); err != nil {
			return &ConfigError{name.field, err}
		}
	}
	if err := checkWorkers(c.Workers); err != nil {
		return &ConfigError{"Workers", err}
	}
	if c.TTL < minTTL || c.TTL > maxTTL {
		return &ConfigError{"TTL", fmt.Errorf("TTL %v: must be %v to %v", c.TTL, minTTL, maxTTL)}
	}
	if c.Outage != FenceOnOutage && c.Outage != KeepOnOutage {
		return &ConfigError{"Outage", fmt.Errorf("Outage %d: must be FenceOnOutage or KeepOnOutage", c.Outage)}
	}
	if _, err := c.Mode.MarshalText(); err != nil {
		return &ConfigError{"Mode", fmt.Errorf("Mode %d: must be ModeDirect, ModePlanned or ModeExclusive", c.Mode)}
	}
	if c.Mode == ModeExclusive && c.Outage != FenceOnOutage {
		return &ConfigError{"Outage", errors.New("Outage KeepOnOutage: in mode exclusive it must be FenceOnOutage; " +
			"who goes on without the registry is not alone")}
	}
	if c.ReclaimAfter != 0 && c.ReclaimAfter < minReclaim {
		return &ConfigError{"ReclaimAfter", fmt.Errorf("ReclaimAfter %v: must be %v at least, or 0 for never",
			c.ReclaimAfter, minReclaim)}
	}
	if c.DrainTimeout < 0 {
		return &ConfigError{"DrainTimeout", fmt.Errorf("DrainTimeout %v: must be positive", c.DrainTimeout)}
	}
	if err := c.validateRecord(); err != nil {
		return err
	}
	if c.Registry == nil {
		return &ConfigError{"Registry", errors.New("Registry: is required; use Etcd(\"http://HOST:2379\"), " +
			"or for a single instance Static(0, 1), where 1 is its Workers")}
	}
	if checker, ok := c.Registry.(Checker); ok {
		if err := checker.Check(c.registration()); err != nil {
			return &ConfigError{"Registry", fmt.Errorf("Registry: %w", err)}
		}
	}
	return nil
}

// validateRecord refuses what the others could not read as it was meant.
func (c Config) validateRecord() error {
	if !utf8.ValidString(c.Address) {
		return &ConfigError{"Address", fmt.Errorf("Address %.100q: must be valid UTF-8", c.Address)}
	}
	if !utf8.ValidString(c.Version) {
		return &ConfigError{"Version", fmt.Errorf("Version %.100q: must be valid UTF-8", c.Version)}
	}
	for k, v := range c.Metadata {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return &ConfigError{"Metadata", fmt.Errorf("Metadata %.100q=%.100q: must be valid UTF-8", k, v)}
		}
	}
	longest := c.registration().Member
	longest.Workers = MaxWorkers // SetWorkers may make it so
	longest.kept = true          // and Returning
	if c.Mode != ModeDirect {
		longest.plans.seen = math.MaxInt64
	}
	if n := len(longest.Record()); n > maxRecord {
		return &ConfigError{"Metadata", fmt.Errorf(
			"Metadata, Address and Version: together %d bytes, must be at most %d", n, maxRecord)}
	}
	return nil
}

// published is what this instance publishes of itself.
func (c Config) published() Member {
	m := Member{ID: c.ID, Workers: c.Workers, Address: c.Address, Version: c.Version, Metadata: c.Metadata}
	m.plans.mode = c.Mode
	if c.Mode == ModeExclusive {
		// What is granted may be more; the deadline counts by what was asked for.
		m.plans.window = window(c.TTL)
	}
	return m
}

func (c Config) registration() Registration {
	return Registration{
		Key:       c.Key,
		Partition: c.Partition,
		Env:       c.Env,
		Member:    c.published().clone(),
		Passive:   c.Passive,
		Mode:      c.Mode,
		TTL:       c.TTL,
		Logger:    c.Logger,
	}
}
