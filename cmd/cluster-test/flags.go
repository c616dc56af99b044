package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// maxNodes is more than one process sensibly runs: each instance has a
// connection of its own.
const maxNodes = 1000

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
	partitions          int           // in mode cooperative; 0: the default
	work                time.Duration // how long pretended work takes to stop
	returning           time.Duration // how long the assignment is kept after leaving
	registry            *registryflag.Registry

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
	*registryflag.Flags

	help, verbose, json           bool
	key, env, partition, instance string
	threads                       string
	nodes                         registryflag.Number
	passive                       bool
	ttl, work, returning          time.Duration
	mode                          registryflag.Mode
	exclusive                     bool
	index, total, partitions      registryflag.Number
	staticEnv                     bool

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
	s := pflag.NewFlagSet(program, pflag.ContinueOnError)
	f := &flags{Flags: registryflag.Add(s), total: 1, partitions: libcluster.DefaultPartitions}
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
	s.VarP(&f.index, "index", "I", "")
	s.VarP(&f.total, "total", "T", "")
	s.BoolVar(&f.staticEnv, "static-env", false, "")
	s.DurationVar(&f.ttl, "ttl", libcluster.DefaultTTL, "")
	s.Var(&f.mode, "mode", "")
	s.Var(&f.partitions, "partitions", "")
	s.BoolVar(&f.exclusive, "exclusive", false, "")
	s.DurationVar(&f.work, "work", 0, "")
	s.DurationVar(&f.returning, "returning", 0, "")
	s.BoolVar(&f.json, "json", false, "")
	return f
}

// parse reads a command line, and the password if it has to be typed. Its errors name the
// flag and the value; for --help the error is errHelp.
func parse(ctx context.Context, args []string) (options, error) {
	f := newFlags()
	if err := f.Parse(args); err != nil {
		return options{}, f.Syntax(err)
	}
	if f.help {
		return options{}, errHelp
	}
	if f.NArg() > 0 {
		return options{}, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if err := f.check(); err != nil {
		return options{}, err
	}
	o := options{
		verbose: f.verbose, json: f.json,
		key: f.key, env: f.env, partition: f.partition, instance: f.instance,
		nodes: f.Given("nodes"), threads: f.counts, passive: f.passive, ttl: f.ttl, mode: libcluster.Mode(f.mode), work: f.work,
		returning: f.returning,
		flags:     f,
	}
	if f.Given("partitions") {
		o.partitions = int(f.partitions)
	}
	if f.exclusive {
		o.mode = libcluster.ModeExclusive
	}
	return o, f.registryInto(ctx, &o)
}

// registryInto fills in the registry.
func (f *flags) registryInto(ctx context.Context, o *options) error {
	if !f.Given("registry") {
		static, err := f.staticRegistry()
		o.registry = &registryflag.Registry{Registry: static}
		return err
	}
	registry, err := f.Open(ctx, registryflag.Use{
		Instances: len(o.threads), Verbose: f.verbose,
	})
	if err != nil {
		return err
	}
	o.registry = registry
	if f.Peers() {
		o.instance = cmp.Or(o.instance, registry.ID)
		if !f.Given("ttl") {
			o.ttl = 0 // the default of such a registry
		}
	}
	return nil
}

// staticRegistry is the registry without -r.
func (f *flags) staticRegistry() (libcluster.Registry, error) {
	index, total, threads := int(f.index), int(f.total), f.counts[0]
	if f.staticEnv {
		tasks := 0 // not given
		if f.Given("total") {
			tasks = total
		}
		registry, err := libcluster.StaticFromEnv(tasks)
		if err != nil {
			return nil, fmt.Errorf("%s: %s", f.Shown("static-env"), oneLine(err))
		}
		return registry, nil
	}
	if index+threads > total {
		return nil, fmt.Errorf("%s, %s: %d threads from index %d on need a total of at least %d, and it is %d; give -T/--total",
			f.Shown("threads"), f.Shown("index"), threads, index, index+threads, total)
	}
	return libcluster.Static(index, total), nil
}

// explain says which flag a field of the library's configuration came from.
func (o options) explain(err error) error {
	flagOf := map[string]string{
		"Key": "key", "Env": "env", "Partition": "partition", "ID": "instance",
		"Workers": "threads", "TTL": "ttl", "Registry": "registry", "Mode": "mode", "Partitions": "partitions",
	}
	if !o.flags.Given("registry") {
		flagOf["Registry"] = "static-env" // -I and -T have been checked
	}
	return o.flags.Explain(err, flagOf)
}
