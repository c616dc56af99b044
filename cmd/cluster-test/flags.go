package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/embedded"
)

// maxNodes is more than one process sensibly runs: each instance has a
// connection of its own.
const maxNodes = 1000

// lookTimeout is the default of --timeout: time for an attempt to join and another one.
const lookTimeout = 10 * time.Second

// options is a command line that makes sense.
type options struct {
	verbose, json       bool
	key, env, partition string
	instance            string
	nodes               bool  // --nodes was given: lines say which instance
	threads             []int // of each instance
	passive             bool
	ttl                 time.Duration
	mode                libcluster.Mode
	work                time.Duration // how long pretended work takes to stop
	returning           time.Duration // how long the place is kept after leaving
	timeout             time.Duration // how long who only looks tries to
	registry            libcluster.Registry
	embedded            *embedded.Config       // what has to run for etcd to work, or nil
	etcd                *libcluster.EtcdConfig // is registry, if embedded
	file                string                 // or folder that registry is in
	database            io.Closer              // that; nil: none

	flags *flags // for explain
}

// id returns the ID of instance i, or "" for a random one.
func (o options) id(i int) string {
	if o.nodes && o.instance != "" {
		return o.instance + strconv.Itoa(i+1)
	}
	return o.instance
}

// flags is a command line as it was given.
type flags struct {
	set *pflag.FlagSet

	help, verbose, json                   bool
	key, env, partition, instance         string
	threads                               string
	nodes                                 number
	passive                               bool
	registry, cacert, cert, certKey, user string
	passwordFile                          string
	ttl, work, returning, timeout         time.Duration
	mode                                  mode
	exclusive                             bool
	index, total                          number
	staticEnv                             bool

	counts []int // of threads, one for each instance
}

var errHelp = errors.New("help asked for")

// settled reports whether nothing is left to do after parsing a command line, and the
// exit status.
func settled(err error, usage string, stdout io.Writer) (status int, done bool) {
	switch {
	case errors.Is(err, errHelp):
		if _, err := io.WriteString(stdout, usage); err != nil {
			return exitFailed, true
		}
	case errors.Is(err, context.Canceled): // told to end while it asked for the password
	default:
		return 0, false
	}
	return exitOK, true
}

func newFlags() *flags {
	f := &flags{set: pflag.NewFlagSet(program, pflag.ContinueOnError), total: 1}
	s := f.set
	s.SetOutput(io.Discard) // errors come back, and usage is not printed for them
	s.Usage = func() {}
	s.BoolVarP(&f.help, "help", "h", false, "")
	s.BoolVarP(&f.verbose, "verbose", "v", false, "")
	s.StringVarP(&f.key, "key", "k", program, "")
	s.StringVarP(&f.env, "env", "e", libcluster.DefaultEnv, "")
	s.StringVarP(&f.partition, "partition", "p", "", "")
	s.StringVarP(&f.instance, "instance", "i", "", "")
	s.StringVarP(&f.threads, "threads", "n", "1", "")
	s.Var(&f.nodes, "nodes", "")
	s.BoolVarP(&f.passive, "passive", "P", false, "")
	s.StringVarP(&f.registry, "registry", "r", "", "")
	s.VarP(&f.index, "index", "I", "")
	s.VarP(&f.total, "total", "T", "")
	s.BoolVar(&f.staticEnv, "static-env", false, "")
	s.DurationVar(&f.ttl, "ttl", libcluster.DefaultTTL, "")
	s.Var(&f.mode, "mode", "")
	s.BoolVar(&f.exclusive, "exclusive", false, "")
	s.DurationVar(&f.work, "work", 0, "")
	s.DurationVar(&f.returning, "returning", 0, "")
	s.BoolVar(&f.json, "json", false, "")
	s.StringVar(&f.cacert, "cacert", "", "")
	s.StringVar(&f.cert, "cert", "", "")
	s.StringVar(&f.certKey, "cert-key", "", "")
	s.StringVar(&f.user, "user", "", "")
	s.StringVar(&f.passwordFile, "password-file", "", "")
	return f
}

// looking adds the flags of commands that only look at a cluster.
func (f *flags) looking() *flags {
	f.set.DurationVar(&f.timeout, "timeout", lookTimeout, "")
	return f
}

// parse reads a command line, and the password if it has to be typed. Its errors name the
// flag and the value; for --help the error is errHelp.
func parse(ctx context.Context, args []string) (options, error) { return newFlags().parse(ctx, args) }

func (f *flags) parse(ctx context.Context, args []string) (options, error) {
	if err := f.set.Parse(args); err != nil {
		return options{}, f.syntax(err)
	}
	if f.help {
		return options{}, errHelp
	}
	if f.set.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", f.set.Arg(0))
	}
	if err := f.check(); err != nil {
		return options{}, err
	}
	o := options{
		verbose: f.verbose, json: f.json,
		key: f.key, env: f.env, partition: f.partition, instance: f.instance,
		nodes: f.given("nodes"), threads: f.counts, passive: f.passive, ttl: f.ttl, mode: libcluster.Mode(f.mode), work: f.work,
		returning: f.returning, timeout: f.timeout,
		flags: f,
	}
	if f.exclusive {
		o.mode = libcluster.ModeExclusive
	}
	return o, f.registryInto(ctx, &o)
}

// registryInto fills in the registry.
func (f *flags) registryInto(ctx context.Context, o *options) error {
	if !f.given("registry") {
		registry, err := f.staticRegistry()
		if err != nil {
			return err
		}
		o.registry = registry
		return nil
	}
	if file, ok := cutScheme(f.registry, sqliteScheme); ok {
		return f.sqliteInto(file, o)
	}
	if scheme, ok := databaseScheme(f.registry); ok {
		return f.databaseInto(ctx, scheme, o)
	}
	if folder, ok := cutScheme(f.registry, dirScheme); ok {
		return f.dirInto(folder, o)
	}
	if file, ok := cutScheme(f.registry, peersScheme); ok {
		return f.peersInto(file, o)
	}
	if strings.Contains(f.registry, "@") && !isEmbedded(f.registry) {
		return fmt.Errorf("%s: the URI must not hold a user or a password; give them with --user",
			label(f.set.Lookup("registry")))
	}
	secure := f.given("cacert") || f.given("cert")
	endpoints, config, err := parseRegistry(f.registry, secure)
	if err != nil {
		return fmt.Errorf("%s: %w", f.shown("registry"), err)
	}
	for _, name := range []string{"cacert", "cert", "cert-key"} {
		if !f.given(name) {
			continue
		}
		if strings.HasPrefix(endpoints[0], "http:") {
			return fmt.Errorf("%s: is for https, and %s is not", f.shown(name), f.shown("registry"))
		}
		if _, err := os.ReadFile(f.set.Lookup(name).Value.String()); err != nil {
			return fmt.Errorf("%s: %w", label(f.set.Lookup(name)), err)
		}
	}
	etcd := libcluster.Etcd(endpoints...)
	etcd.CACert, etcd.Cert, etcd.CertKey = f.cacert, f.cert, f.certKey
	if f.given("user") {
		user, password, err := f.credentials(ctx)
		if err != nil {
			return err
		}
		etcd.Username, etcd.Password = user, libcluster.NewSecret(password)
	}
	o.registry = etcd
	if config != nil {
		o.embedded, o.etcd = config, &etcd
		o.registry = &etcd // which gets its TLS when embedded has been opened
	}
	return nil
}
