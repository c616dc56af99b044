package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/embedded"
)

func TestRegistryURIs(t *testing.T) {
	for _, c := range []struct {
		uri    string
		secure bool
		want   []string
		config *embedded.Config
	}{
		{"http://h:1", false, []string{"http://h:1"}, nil},
		{"HTTP://h", false, []string{"http://h"}, nil},
		{"http://h:1/", false, []string{"http://h:1/"}, nil},
		{"http://[::1]:1", false, []string{"http://[::1]:1"}, nil},
		{"http://a:1,b:2", false, []string{"http://a:1", "http://b:2"}, nil},
		{"http://a:1,http://b:2", false, []string{"http://a:1", "http://b:2"}, nil},
		{"https://a:1, b:2", true, []string{"https://a:1", "https://b:2"}, nil},
		{"etcd://a:1,b:2", false, []string{"http://a:1", "http://b:2"}, nil},
		{"etcd://a:1,etcd://b:2", true, []string{"https://a:1", "https://b:2"}, nil},
		{"embedded:", false, []string{"https://127.0.0.1:2379"}, &embedded.Config{Port: 2379}},
		{"embedded:99", false, []string{"https://127.0.0.1:99"}, &embedded.Config{Port: 99}},
		{"embedded:99/a/b", false, []string{"https://127.0.0.1:99"}, &embedded.Config{Port: 99, Dir: "a/b"}},
		{"embedded:99//a@b", false, []string{"https://127.0.0.1:99"}, &embedded.Config{Port: 99, Dir: "/a@b"}},
	} {
		t.Run(c.uri, func(t *testing.T) {
			endpoints, config, err := parseRegistry(c.uri, c.secure)
			require.NoError(t, err)
			require.Equal(t, c.want, endpoints)
			require.Equal(t, c.config, config)
		})
	}
}

func TestPasswordComesFromTheFlagOrTheEnvironment(t *testing.T) {
	t.Setenv(passwordEnv, "of the environment")
	for given, want := range map[string]string{
		"root":       "of the environment",
		"root:a:b":   "a:b",
		"root:given": "given",
	} {
		o, err := parse(t.Context(), []string{"-r", "http://h", "--user", given})
		require.NoError(t, err)
		etcd, ok := o.registry.(libcluster.EtcdConfig)
		require.True(t, ok)
		require.Equal(t, "root", etcd.Username)
		require.Equal(t, want, etcd.Password.Reveal())
	}
}

func TestVerboseNeverShowsAPassword(t *testing.T) {
	t.Parallel()
	p := start(t, strings.Fields("-v -r http://127.0.0.1:1 --user root:secret")...)
	p.stderr.awaitText(t, "cannot join yet")
	p.signal()
	require.Equal(t, exitOK, p.ends(t))
	require.NotContains(t, p.stderr.String(), "secret")
}

func TestPasswordComesFromTheFirstLineOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("s3:cret \r\nmore\n"), 0o600))
	o, err := parse(t.Context(), []string{"-r", "http://h", "--user", "mailer", "--password-file", file})
	require.NoError(t, err)
	etcd := o.registry.(libcluster.EtcdConfig)
	require.Equal(t, "mailer", etcd.Username)
	require.Equal(t, "s3:cret ", etcd.Password.Reveal())

	require.NoError(t, os.WriteFile(file, []byte("\nmore\n"), 0o600))
	for _, args := range [][]string{
		{"--user", "mailer", "--password-file", file},
		{"--user", "mailer", "--password-file", file + "x"},
		{"--user", "mailer:s3cret", "--password-file", file},
		{"--password-file", file},
	} {
		_, err := parse(t.Context(), append([]string{"-r", "http://h"}, args...))
		require.ErrorContains(t, err, "--password-file")
		require.NotContains(t, err.Error(), "s3cret")
	}
}
