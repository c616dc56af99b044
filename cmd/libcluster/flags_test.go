package main

import (
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/registryflag"
)

// joining are the flags of a command that joins.
type joining struct {
	*flags
	instanceFlags
}

// taken parses a command line with an environment. It returns the flags, and what was
// taken from the environment.
func taken(t *testing.T, env map[string]string, args ...string) (*joining, []string, error) {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := &joining{flags: addFlags(set)}
	f.add(set)
	require.NoError(t, set.Parse(args))
	all, err := takeFrom(func(name string) string { return env[name] }, registryflag.Line{FlagSet: set}, f.flags.Flags)
	return f, all, err
}

func TestEnvironmentGivesTheFlagsThatTheCommandLineDoesNot(t *testing.T) {
	f, all, err := taken(t, map[string]string{
		"LIBCLUSTER_KEY": "other", "LIBCLUSTER_ENV": "test", "LIBCLUSTER_PARTITION_NAME": "north", "LIBCLUSTER_TTL": "3s",
		"LIBCLUSTER_REGISTRY": "sqlite:f", "LIBCLUSTER_ID": "a", "LIBCLUSTER_MODE": "exclusive",
	}, "-k", "mailer")
	require.NoError(t, err)
	require.Equal(t, "mailer", f.key)
	require.Equal(t, "test", f.env)
	require.Equal(t, "north", f.partition)
	require.Equal(t, "a", f.id)
	require.Equal(t, 3*time.Second, f.ttl)
	require.Equal(t, "exclusive", f.mode.String())
	require.Equal(t, `-r/--registry (LIBCLUSTER_REGISTRY) "sqlite:f"`, f.Shown("registry"))
	require.Contains(t, all, "--env is taken from LIBCLUSTER_ENV")
	require.Len(t, all, 6)

	_, _, err = taken(t, map[string]string{"LIBCLUSTER_TTL": "soon"})
	require.EqualError(t, err, `LIBCLUSTER_TTL: --ttl "soon": must be a duration such as 10s or 1m30s`)
}

func TestWhatIsSetForEtcdctlCountsLeast(t *testing.T) {
	etcdctl := map[string]string{
		"ETCDCTL_ENDPOINTS": "a:2379,b:2379", "ETCDCTL_USER": "root:secret",
		"ETCDCTL_CACERT": "ca", "ETCDCTL_CERT": "cert", "ETCDCTL_KEY": "key",
	}
	f, all, err := taken(t, etcdctl)
	require.NoError(t, err)
	require.Equal(t, "etcd://a:2379,b:2379", f.Lookup("registry").Value.String())
	require.Equal(t, "root:secret", f.Lookup("user").Value.String())
	require.Equal(t, "key", f.Lookup("cert-key").Value.String())
	require.NoError(t, f.Check())
	require.Len(t, all, 5)
	require.NotContains(t, all, "secret")

	etcdctl["LIBCLUSTER_REGISTRY"] = "http://c"
	f, all, err = taken(t, etcdctl)
	require.NoError(t, err)
	require.Equal(t, "http://c", f.Lookup("registry").Value.String())
	require.Equal(t, []string{"--registry is taken from LIBCLUSTER_REGISTRY", "--user is taken from ETCDCTL_USER"}, all)

	_, all, err = taken(t, etcdctl, "-r", "sqlite:f")
	require.NoError(t, err)
	require.Empty(t, all, "a file has no users and no certificates")
}
