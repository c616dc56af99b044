package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

func TestPasswordComesFromTheFlagOrTheEnvironment(t *testing.T) {
	t.Setenv("LIBCLUSTER_PASSWORD", "of the environment")
	for given, want := range map[string]string{
		"root":       "of the environment",
		"root:a:b":   "a:b",
		"root:given": "given",
	} {
		o, err := parse(t.Context(), []string{"-r", "http://h", "--user", given})
		require.NoError(t, err)
		etcd, ok := o.registry.Registry.(libcluster.EtcdConfig)
		require.True(t, ok)
		require.Equal(t, "root", etcd.Username)
		require.Equal(t, want, etcd.Password.Reveal())
	}
}

func TestVerboseNeverShowsAPassword(t *testing.T) {
	t.Parallel()
	p := start(t, strings.Fields("-v -r http://127.0.0.1:1 --user root:secret")...)
	p.stderr.AwaitText(t, "cannot join yet")
	p.Signal()
	require.Equal(t, exitOK, p.Ends(t))
	require.NotContains(t, p.stderr.String(), "secret")
}

func TestPasswordComesFromTheFirstLineOfAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(file, []byte("s3:cret \r\nmore\n"), 0o600))
	o, err := parse(t.Context(), []string{"-r", "http://h", "--user", "mailer", "--password-file", file})
	require.NoError(t, err)
	etcd := o.registry.Registry.(libcluster.EtcdConfig)
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

func TestHeartbeatsAreForAFolderOrADatabase(t *testing.T) {
	for _, registry := range []string{"dir:" + t.TempDir(), "sqlite:" + filepath.Join(t.TempDir(), "file"), "postgres://u:p@h/db"} {
		with, err := parse(t.Context(), []string{"-r", registry, "--heartbeats", "127.0.0.1:0"})
		require.NoError(t, err)
		require.NoError(t, with.registry.Close())
		without, err := parse(t.Context(), []string{"-r", registry})
		require.NoError(t, err)
		require.NoError(t, without.registry.Close())
		require.Equal(t, without.registry.String(), with.registry.String())
	}
	for _, args := range [][]string{
		{"--heartbeats", ":0"},
		{"-r", "http://h", "--heartbeats", ":0"},
		{"-r", "gossip:127.0.0.1:1", "--heartbeats", ":0"},
		{"-r", "dir:/x", "--heartbeats", "x"},
	} {
		_, err := parse(t.Context(), args)
		require.ErrorContains(t, err, "--heartbeats")
	}
}
