package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// flags are those of all commands: which cluster, and where.
type flags struct {
	*registryflag.Flags

	verbose             bool
	key, env, partition string
}

func addFlags(set *pflag.FlagSet) *flags {
	f := &flags{Flags: registryflag.Add(set)}
	set.BoolVarP(&f.verbose, "verbose", "v", false, "show the library's log, and what was taken from the environment")
	set.StringVarP(&f.key, "key", "k", "", "the cluster's `KEY`, which is required")
	set.StringVarP(&f.env, "env", "e", libcluster.DefaultEnv, "the cluster's `ENVIRONMENT`")
	set.StringVarP(&f.partition, "partition-name", "p", "", "the cluster's partition `NAME` (default: none)")
	return f
}

// complete takes from the environment what the command line does not say, and checks what
// all commands have.
func (f *flags) complete(command *cobra.Command, line registryflag.Line) error {
	taken, err := takeFrom(os.Getenv, line, f.Flags)
	if err != nil {
		return err
	}
	if f.verbose {
		for _, what := range taken {
			fmt.Fprintf(command.ErrOrStderr(), "%s: %s\n", program, what)
		}
	}
	if err := line.CheckEmpty(); err != nil {
		return err
	}
	return f.Check()
}

// instanceFlags are those of a command that joins the cluster.
type instanceFlags struct {
	id         string
	ttl        time.Duration
	mode       registryflag.Mode
	partitions registryflag.Number
}

func (f *instanceFlags) add(set *pflag.FlagSet) {
	f.mode = registryflag.Mode(libcluster.ModePlanned)
	set.StringVarP(&f.id, "id", "i", "", "this instance's `ID`, which no other instance has (default: the host name)")
	set.DurationVar(&f.ttl, "ttl", 0, "how long a vanished instance keeps its indexes (default: 10s; with peers: 3s)")
	set.Var(&f.mode, "mode", "how instances get their indexes: direct, planned, or exclusive, in which never two hold one; or cooperative, with partitions instead")
	set.Var(&f.partitions, "partitions", "how many `PARTITIONS` there are in mode cooperative, the same for all instances")
}

// takeFrom gives flags that are not on the command line the values that the environment
// has for them. It returns what it took from where, without the values.
func takeFrom(getenv func(string) string, all registryflag.Line, registry *registryflag.Flags) (taken []string, err error) {
	take := func(name, variable, value string) {
		if err != nil {
			return
		}
		var took bool
		if took, err = all.SetFrom(name, variable, value); took {
			taken = append(taken, fmt.Sprintf("--%s is taken from %s", name, variable))
		}
	}
	all.VisitAll(func(flag *pflag.Flag) {
		variable := "LIBCLUSTER_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		take(flag.Name, variable, getenv(variable))
	})
	endpoints := getenv("ETCDCTL_ENDPOINTS")
	if endpoints != "" && !strings.Contains(endpoints, "://") {
		endpoints = "etcd://" + endpoints // as etcdctl has it
	}
	take("registry", "ETCDCTL_ENDPOINTS", endpoints)
	if registry.Etcd() {
		take("user", "ETCDCTL_USER", getenv("ETCDCTL_USER"))
	}
	if registry.EtcdWithTLS() {
		take("cacert", "ETCDCTL_CACERT", getenv("ETCDCTL_CACERT"))
		take("cert", "ETCDCTL_CERT", getenv("ETCDCTL_CERT"))
		take("cert-key", "ETCDCTL_KEY", getenv("ETCDCTL_KEY"))
	}
	return taken, err
}

var errNoRegistry = errors.New("needs a registry; give -r/--registry, such as -r sqlite:FILE, or set LIBCLUSTER_REGISTRY")

// open opens the registry, and returns what is known of a cluster in it. Its errors are those of the
// command line.
func (f *flags) open(ctx context.Context, use registryflag.Use, log *zap.Logger) (*registryflag.Registry, libcluster.Config, error) {
	switch {
	case !f.Given("key"):
		return nil, libcluster.Config{}, errors.New("needs the cluster's key; give -k/--key or set LIBCLUSTER_KEY")
	case !f.Given("registry"):
		return nil, libcluster.Config{}, errNoRegistry
	}
	use.Verbose = f.verbose
	registry, err := f.Open(ctx, use)
	if err != nil {
		return nil, libcluster.Config{}, err
	}
	registry.LogTo(log)
	return registry, libcluster.Config{
		Key: f.key, Env: f.env, Partition: f.partition, Registry: registry.Registry, Logger: log,
	}, nil
}

// newCluster is libcluster.New, whose errors then speak of flags.
func (f *flags) newCluster(config libcluster.Config, all registryflag.Line) (*libcluster.Cluster, error) {
	cluster, err := libcluster.New(config)
	return cluster, all.Explain(err, map[string]string{
		"Key": "key", "Env": "env", "Partition": "partition-name", "ID": "id",
		"Workers": "workers", "TTL": "ttl", "Registry": "registry", "Mode": "mode", "Partitions": "partitions",
	})
}
