package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testhost"
)

// peerFiles writes the files of three peers.
func peerFiles(t *testing.T) (files []string) {
	t.Helper()
	dir := t.TempDir()
	var ports []int
	for range 3 {
		ports = append(ports, testhost.FreePort(t))
	}
	ids := []string{"a", "b", "c"}
	for n, id := range ids {
		entry := func(m int) string {
			return fmt.Sprintf(`{"host": "localhost", "port": %d, "identifier": "%s"}`, ports[m], ids[m])
		}
		file := filepath.Join(dir, id+".json")
		text := fmt.Sprintf(`{"identifier": "%s", "listen_host": "localhost", "listen_port": %d, "peers": [%s, %s]}`,
			id, ports[n], entry((n+1)%3), entry((n+2)%3))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		files = append(files, file)
	}
	return files
}

func TestInstancesAreTheRegistryThemselves(t *testing.T) {
	t.Parallel()
	var all []*running
	files := peerFiles(t)
	for _, file := range files {
		all = append(all, start(t, "-r", "peers:"+file, "-n", "2"))
	}
	for _, p := range all {
		p.stderr.AwaitText(t, "total thread count:    6")
	}
	for _, p := range all {
		p.Signal()
		require.Equal(t, exitOK, p.Ends(t), "%s", p.stderr)
	}
}

func TestMistakeInAFileOfPeersIsOneOfTheCommandLine(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"identifier": "a", "listen_port": 7001, "peers": [{}]}`), 0o600))
	for want, args := range map[string][]string{
		"peers[0].host: is missing":                         {"-r", "peers:" + file},
		"names no file; must be peers:FILE":                 {"-r", "peers:"},
		"the file of the peers names their certificates":    {"-r", "peers:" + file, "--cacert", "x"},
		"the file of the peers names their certificates, a": {"-r", "peers:" + file, "--user", "x"},
	} {
		p := start(t, args...)
		require.Equal(t, exitUsage, p.Ends(t))
		require.Contains(t, p.stderr.String(), want)
	}
}
