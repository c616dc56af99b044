package libcluster

import (
	"cmp"
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
	// DefaultEnv is the default of [Config.Env].
	DefaultEnv = "production"

	// DefaultTTL is the default of [Config.TTL]. It leaves room for the loss of an etcd
	// leader (election timeout 1 s, 1 to 3.5 s until the next leader serves) before any
	// instance is fenced, and gives the assignment of a crashed instance to the others
	// within some 10 s.
	DefaultTTL = 10 * time.Second

	// DefaultCoverageTimeout is the default of [Config.CoverageTimeout]: long enough to
	// replace an instance that has vanished.
	DefaultCoverageTimeout = 30 * time.Second

	// DefaultPartitions is the default of [Config.Partitions].
	DefaultPartitions = 256

	// DefaultDrainTimeout is the default of [Config.DrainTimeout].
	DefaultDrainTimeout = time.Minute

	// minReclaim bounds how often an instance whose ID has been taken reads the cluster.
	minReclaim = time.Second
)

// Outage is what an instance does when it cannot renew its record.
type Outage int

const (
	// FenceOnOutage gives the assignment up before another instance can have it.
	FenceOnOutage Outage = iota
	// KeepOnOutage keeps the last state, for applications that prefer work done twice
	// to work not done: after the TTL the others may do the same work. If the record is
	// still there when the registry answers again, nothing has happened. Otherwise the
	// instance is fenced then, and rejoins.
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
	// Env distinguishes environments of one application. Default: [DefaultEnv].
	Env string
	// Partition is the partition name. It distinguishes clusters with the same key and
	// environment. Optional.
	Partition string

	// ID is unique to this instance. Members are ordered by ID, so an instance
	// that keeps its ID over restarts also keeps its position. An instance
	// that joins with an ID in use takes it over: see [ErrInstanceTaken].
	// Default: a random UUID as 32 hex digits.
	ID string
	// Workers is how many worker indexes this instance wants, 1 to [MaxWorkers].
	// The total of a cluster has the same limits. Default: 1.
	Workers int
	// Address, Version and Metadata are published with the member, for the others to
	// read; see [Member]. Together they may have 64 KiB. Optional.
	Address  string
	Version  string
	Metadata map[string]string
	// Passive makes the instance watch the cluster without being a member: its state has
	// the total and index -1, and it writes nothing to the registry.
	Passive bool

	// Registry is where the members find one another: [Etcd], [EtcdConfig],
	// [Static], [StaticFromEnv], or any other implementation. Required; for a cluster of
	// only this instance, use Static(0, Workers).
	Registry Registry
	// TTL is how long a member that has vanished without leaving keeps its
	// assignment, 1 s to 24 h. The registry may grant more; etcd rounds up to whole
	// seconds and has a minimum of its own. An instance stays active as long as the
	// registry's answers take less than 3/10 of the TTL, waits for a busy processor
	// included. To survive the loss of an etcd leader, the TTL must be at least 8 s. In
	// modes [ModeExclusive] and [ModeCooperative] the time for which the others wait for a
	// vanished instance depends on its TTL. So an instance whose TTL is more than 20 times the
	// coordinator's is refused. Default: that of the registry ([Capabilities.TTL]), as a rule
	// [DefaultTTL].
	TTL time.Duration

	// Outage says what the instance does when the registry has not answered for so long
	// that the record may have expired. Default: [FenceOnOutage]. Modes
	// [ModeExclusive] and [ModeCooperative] allow nothing else.
	Outage Outage

	// Mode is how the members get their assignments. Default: [ModeDirect].
	Mode Mode
	// Partitions is how many partitions there are in mode [ModeCooperative], 1 to
	// [MaxPartitions]. All instances must have the same number: an instance with another one
	// is refused with a [ModeError]. So choose it once, several times as large as the number of
	// instances will ever be. Default: [DefaultPartitions]; in the other modes it must be 0.
	Partitions int

	// ReclaimAfter is for an instance that has lost its ID to another instance. It asks
	// for the ID again when no instance has had it for this long, at least 1 s. Until
	// then it is fenced with [ErrInstanceTaken], and looks at the cluster four times in
	// this time; a look that fails restarts the count. (If the registry keeps no plans, the
	// instance asks for its ID after this time.) Once it has its ID
	// again it goes on as after any fence, and [Cluster.Run] does not end. A Join that has
	// not returned fails nevertheless.
	//
	// Default: zero; the instance does not ask again, and Run ends. Most often, two
	// instances with one ID are a mistake, and an instance that comes back by itself would
	// hide it. When Run ends, the supervisor that restarts the program learns of it.
	ReclaimAfter time.Duration

	// DrainTimeout is how long the application may take to stop in mode
	// [ModeExclusive], while all others wait for it, or in mode [ModeCooperative] to stop a
	// partition that is to move, also because the instance leaves. After that the instance lets
	// its record go, logs that, and calls OnStuck. The others go on when the instance's
	// deadline must have passed. It rejoins when the application has stopped, unless it leaves.
	// Default: [DefaultDrainTimeout].
	DrainTimeout time.Duration
	// OnStuck is called, in a goroutine of its own, when DrainTimeout has passed and the
	// application is still working. OnStuck may end the process, which is the only way to
	// be sure that the work has stopped. Optional.
	OnStuck func()

	// CoverageTimeout is how long it may last that not every worker index is held by
	// exactly one instance. After that it is logged at Error, with the instances that
	// are missing or waited for, and again each minute; see [Cluster.Coverage]. One
	// instance does this for all. It looks at least twice a TTL, at what it knows anyway:
	// this adds no reads or writes. Default: [DefaultCoverageTimeout]; negative: never.
	CoverageTimeout time.Duration

	// OnRebalance is the callback; it gets each new state. The first call comes before
	// Join returns, then one whenever Index, Workers, Total or the partitions held have
	// changed, and the last one with index -1 on leaving. It is also called when a fenced instance learns that
	// another instance has its ID, see [Cluster.Err].
	//
	// Calls come from one goroutine, one after another. A call that takes long delays
	// only the next call and Leave, in mode [ModeExclusive] the other instances, and in mode
	// [ModeCooperative] those that are to get a partition from this one. The
	// next call gets the newest state, and the states between are skipped, except that an
	// index of -1 is always reported before an assignment in a new incarnation. The
	// callback may call State, SetWorkers, SetMetadata and View. It must not call Leave, which would wait
	// for this very callback until Leave's context ends: start a goroutine for it. A panic
	// is not recovered.
	//
	// With [Cluster.Run] the callback is optional: it is called after Run's function has
	// stopped and before the function runs again.
	OnRebalance func(State)

	// OnGranted, OnRevoked and OnLost are called in mode [ModeCooperative] beside OnRebalance,
	// by its rules, for applications that keep something for all of their partitions. Runs of
	// [Cluster.RunPartitions] neither need them nor wait for them. Each gets partitions in order
	// of their numbers, and owns the slice.
	//
	// OnGranted gets partitions that this instance holds from now on. OnRevoked gets those that
	// are to move: they are still this instance's until the call has returned, or its deadline
	// has passed, and then others get them. It gets all partitions when the instance
	// leaves. [Cluster.State] is the new one by then and does not hold them;
	// [Cluster.PartitionFence] still guards what is written last. OnLost gets those that are
	// gone already, because the instance was fenced: others may act on them by now. Each
	// partition that was granted is revoked or lost once, before it is granted again. All three
	// come before OnRebalance, and what is revoked or lost does so in a round of its own, of
	// which OnRebalance is told too, before others are granted.
	OnGranted, OnRevoked, OnLost func([]Partition)

	// OnPrimary is called with true when this instance has become the primary, after
	// OnRebalance has returned, and with false when it is the primary no longer, before
	// OnRebalance is called. For both hold the rules of OnRebalance: no call runs
	// beside another, nor beside a function of [Cluster.Run]. In mode [ModeCooperative] the call
	// with false waits until the function of [WithPrimary] or [Cluster.RunPrimary] has returned,
	// for which OnRebalance does not wait. In modes
	// [ModeExclusive] and [ModeCooperative] no other instance is told true before the call with
	// false has returned, or this instance's deadline has passed; in the other modes this holds
	// when the instance leaves, and otherwise the next primary may be told sooner. While a call
	// with false hangs, OnRebalance cannot be called with index -1.
	OnPrimary func(primary bool)

	// OnMembers is called when members have come, gone, or published something else: first
	// with all that are there. Metadata and versions count, which OnRebalance is never called
	// for. Calls come from a goroutine of their own, one after another. However long one
	// takes, nothing is lost, nothing is told twice, and nothing waits but Leave: the next
	// call has what has changed since, once for each member. While this instance is fenced
	// it learns nothing new; when it is back, the next call has the difference. OnMembers must
	// not call Leave, as OnRebalance must not. A panic is not recovered.
	//
	// It watches members as WatchMembers does, at the same costs.
	OnMembers func(MembersChange)

	// WatchMembers has this instance know the Version and Metadata of all members, for
	// [Cluster.Primary], [Cluster.Members] and [Cluster.OwnerOf].
	//
	// In mode [ModeDirect] they are known anyway. In a mode with a plan, in which members do not
	// watch each other, each instance that sets it is told of each change of each member,
	// and of each acknowledgement too: if all set it, a change costs messages
	// in proportion to the square of the members, as in direct mode.
	WatchMembers bool

	// Superseded has this instance leave when a newer one is there. It is called with each
	// other member that holds an assignment, whenever members have changed, in the
	// goroutine of OnMembers and by its rules and at its costs. Orphaned records do not
	// count, nor does a newer instance for which there is no partition: to replace
	// instances of mode [ModeCooperative] there must be more partitions than instances.
	// When it returns true, this instance leaves: Run returns [ErrSuperseded], a Join that
	// has not returned does too, and otherwise OnExit is called. Usually it is
	// [ByNewerVersion].
	Superseded func(own, other Member) bool

	// GiveUpAfter has this instance leave when it has been fenced for this long, or drained
	// in mode [ModeDirect], and has not rejoined: Run returns [ErrGivenUp], and otherwise
	// OnExit is called. Default: zero; the instance goes on trying for ever. An instance
	// whose ID is taken for good is told that instead: see OnExit.
	GiveUpAfter time.Duration

	// OnExit is called when this instance has left by itself after Join had returned, for one
	// of [ErrSuperseded], [ErrGivenUp] and [ErrInstanceTaken]: all callbacks have returned, and
	// Join may be called again. (Without OnExit an instance whose ID is taken stays fenced, and
	// does not leave.) It runs in a goroutine of its own, for which Leave does not wait. With
	// [Cluster.Run] it is not called, since Run returns the error.
	OnExit func(error)

	// Logger receives what happens: re-balances at Info, the members at Debug, trouble at
	// Warn and Error. Trouble that lasts is logged again after 10 s, and then after twice
	// as long each time, up to 5 minutes; "unsaid" is how often it has come in between.
	// Trouble of the whole cluster is logged by one instance: the coordinator, or in mode
	// direct the first member by ID. [Slog] makes one of an *slog.Logger. Default: what is Warn
	// or worse goes to [slog.Default]. With zap.NewNop() nothing is logged.
	//
	// Nothing waits for the logger. A goroutine writes the lines in their order, and lives
	// while there are any. Up to 1,000 lines wait, the rest are dropped, and their number
	// is logged when the logger takes lines again. Leave waits up to a second for the last
	// lines. A logger that hangs for ever costs one goroutine, which stays.
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
		if c.Registry != nil {
			c.TTL = cmp.Or(c.Registry.Capabilities().TTL, DefaultTTL)
		}
	}
	if c.Partitions == 0 && c.Mode == ModeCooperative {
		c.Partitions = DefaultPartitions
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = DefaultDrainTimeout
	}
	if c.CoverageTimeout == 0 {
		c.CoverageTimeout = DefaultCoverageTimeout
	}
	if c.Logger == nil {
		c.Logger = defaultLogger()
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
		return &ConfigError{"Mode", fmt.Errorf("Mode %d: must be ModeDirect, ModePlanned, ModeExclusive or ModeCooperative", c.Mode)}
	}
	if c.Mode.excludes() && c.Outage != FenceOnOutage {
		return &ConfigError{"Outage", fmt.Errorf("Outage KeepOnOutage: in mode %v it must be FenceOnOutage; "+
			"an instance that goes on without the registry is not alone", c.Mode)}
	}
	if err := c.validatePartitions(); err != nil {
		return err
	}
	if c.ReclaimAfter != 0 && c.ReclaimAfter < minReclaim {
		return &ConfigError{"ReclaimAfter", fmt.Errorf("ReclaimAfter %v: must be %v at least, or 0 for never",
			c.ReclaimAfter, minReclaim)}
	}
	if c.DrainTimeout < 0 {
		return &ConfigError{"DrainTimeout", fmt.Errorf("DrainTimeout %v: must be positive", c.DrainTimeout)}
	}
	if c.GiveUpAfter < 0 {
		return &ConfigError{"GiveUpAfter", fmt.Errorf("GiveUpAfter %v: must be positive, or 0 for never", c.GiveUpAfter)}
	}
	if err := c.validateRecord(); err != nil {
		return err
	}
	if c.Registry == nil {
		return &ConfigError{"Registry", errors.New("Registry: is required; use Etcd(\"http://HOST:2379\"), " +
			"or for a single instance Static(0, 1), where 1 is its Workers")}
	}
	switch can := c.Registry.Capabilities(); {
	case c.Mode != ModeDirect && !can.Plans:
		return &ConfigError{"Mode", fmt.Errorf("Mode %v: %w; it must be ModeDirect", c.Mode, ErrCannotPlan)}
	case c.Mode.excludes() && !can.Expires:
		return &ConfigError{"Mode", fmt.Errorf("Mode %v: %w, since its records do not expire", c.Mode, ErrCannotPlan)}
	}
	if _, err := c.Registry.Enter(c.registration()); err != nil {
		return &ConfigError{"Registry", fmt.Errorf("Registry: %w", err)}
	}
	return nil
}

func (c Config) validatePartitions() error {
	switch {
	case c.Mode == ModeCooperative && (c.Partitions < 1 || c.Partitions > MaxPartitions):
		return &ConfigError{"Partitions", fmt.Errorf("Partitions %d: must be 1 to %d", c.Partitions, MaxPartitions)}
	case c.Mode == ModeCooperative:
		return nil
	case c.Partitions != 0:
		return &ConfigError{"Partitions", fmt.Errorf("Partitions %d: mode %v has none; use ModeCooperative", c.Partitions, c.Mode)}
	}
	for _, hook := range []struct {
		field string
		set   bool
	}{{"OnGranted", c.OnGranted != nil}, {"OnRevoked", c.OnRevoked != nil}, {"OnLost", c.OnLost != nil}} {
		if hook.set {
			return &ConfigError{hook.field, fmt.Errorf("%s: mode %v has no partitions; use ModeCooperative", hook.field, c.Mode)}
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
	longest.reserved = true      // and Returning
	if c.Mode != ModeDirect {
		longest.plans.seen = math.MaxInt64
		longest.plans.draining = true // SetDraining may make it so
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
	m.plans.scheme = c.scheme()
	if c.Mode.excludes() {
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

// scheme returns what all instances of the cluster must have in common with this one.
func (c *Config) scheme() scheme { return scheme{c.Mode, c.Partitions} }
