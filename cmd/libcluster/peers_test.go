package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testhost"
	"github.com/libcluster/libcluster/peers"
)

// peersNamed has peers join a cluster, and returns their files.
func peersNamed(t *testing.T, ids ...string) (files []string) {
	t.Helper()
	folder := t.TempDir()
	var list []map[string]any
	for _, id := range ids {
		list = append(list, map[string]any{"identifier": id, "host": "127.0.0.1", "port": testhost.FreePort(t)})
	}
	var joining sync.WaitGroup
	failed := make([]error, len(ids))
	for n, id := range ids {
		text, err := json.Marshal(map[string]any{
			"identifier": id, "listen_host": list[n]["host"], "listen_port": list[n]["port"], "peers": list,
		})
		require.NoError(t, err)
		files = append(files, filepath.Join(folder, id+".json"))
		require.NoError(t, os.WriteFile(files[n], text, 0o600))
		p, err := peers.Load(files[n])
		require.NoError(t, err)
		c, err := libcluster.New(libcluster.Config{Key: key(t), ID: id, Registry: p})
		require.NoError(t, err)
		t.Cleanup(func() {
			ended, end := context.WithCancel(context.Background())
			end()
			_ = c.Leave(ended) // it may have no server any more
			require.NoError(t, p.Close())
		})
		joining.Go(func() { failed[n] = c.Join(t.Context()) })
	}
	joining.Wait()
	for _, err := range failed {
		require.NoError(t, err)
	}
	return files
}

func TestOperatorsRemoveAPeer(t *testing.T) {
	t.Parallel()
	files := peersNamed(t, "a", "b")
	on := func(n int, more ...string) []string {
		return append([]string{"peers", "remove", "-r", "peers:" + files[n], "--timeout", patience.String()}, more...)
	}
	status, text := failing(t, on(0, "c")...)
	require.Equal(t, exitFailed, status)
	require.Regexp(t, `^libcluster: peers: remove "c": the cluster has no such peer; it has a \(.*\), b \(.*\)\n$`, text)

	require.Equal(t, "b is removed\n", printed(t, on(1, "b")...)) // with the file that is for b itself
	status, text = failing(t, on(0, "b")...)
	require.Equal(t, exitFailed, status)
	require.Contains(t, text, "the cluster has no such peer; it has a (")
	status, text = failing(t, on(0, "a")...)
	require.Equal(t, exitFailed, status)
	require.Contains(t, text, "The last peer is not removed")
}

func TestRemovingAPeerNeedsAMajority(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.json")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, `{"identifier": "x", "peers": [{"identifier": "a", "host": "127.0.0.1", "port": %d}]}`, testhost.FreePort(t)), 0o600))
	status, text := failing(t, "peers", "remove", "-r", "peers:"+file, "--timeout", "10ms", "a")
	require.Equal(t, exitUnseen, status)
	require.Contains(t, text, "cannot see the cluster: not seen within 10ms; see --timeout; last: ")
	require.Contains(t, text, "no majority of the peers answers")

	told, tell := context.WithCancel(t.Context())
	tell()
	var said bytes.Buffer
	require.Equal(t, exitUnseen, run(told, []string{"peers", "remove", "-r", "peers:" + file, "a"}, &said, &said))
	require.Contains(t, said.String(), "told to end")
}

func TestMistakesInRemovingAPeerAreNamed(t *testing.T) {
	for want, args := range map[string][]string{
		"has no peers; give -r peers:FILE": {"peers", "remove", "-r", "dir:" + t.TempDir(), "a"},
		"needs a registry":                 {"peers", "remove", "a"},
		"needs an ID":                      {"peers", "remove", "-r", "peers:x.json"},
		"x.json: no such file":             {"peers", "remove", "-r", "peers:x.json", "a"},
		`unknown command "kill"`:           {"peers", "kill", "a"},
	} {
		status, text := failing(t, args...)
		require.Equal(t, exitUsage, status)
		require.Contains(t, text, want)
	}
	require.Contains(t, printed(t, "peers"), "remove ")
}
