package peers_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testhost"
	"github.com/libcluster/libcluster/peers"
)

// patience bounds every wait in these tests.
const patience = 60 * time.Second

// trials is how often what chance has a say in is tried.
var trials = flag.Int("trials", 2, "how often each fault is tried")

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	testhost.Parallel(6)
	goleak.VerifyTestMain(m)
}

// ports returns ports that are free.
func ports(t testing.TB, n int) (all []int) {
	for range n {
		all = append(all, testhost.FreePort(t))
	}
	return all
}

// name is a, b, c, …
func name(n int) string { return string(rune('a' + n)) }

// files writes the file of each of n peers as QCluster has it, with more keys, and returns
// their names.
func files(t testing.TB, n int, more map[string]any) (all []string) {
	dir, free := t.TempDir(), ports(t, n)
	for self := range n {
		peers := []any{}
		for other := range n {
			if other != self {
				peers = append(peers, map[string]any{
					"host": "localhost", "port": free[other], "identifier": name(other),
					"metadata": map[string]any{"server_port": 8000 + other},
				})
			}
		}
		content := map[string]any{
			"identifier": name(self), "listen_host": "localhost", "listen_port": free[self], "peers": peers,
			"server_port": 8000 + self, "metadata": map[string]any{"server_port": strconv.Itoa(8000 + self)},
		}
		for key, value := range more {
			content[key] = value
		}
		all = append(all, write(t, filepath.Join(dir, name(self)+".json"), content))
	}
	return all
}

func write(t testing.TB, file string, content any) string {
	text, err := json.Marshal(content)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, text, 0o600))
	return file
}

func load(t testing.TB, file string) *peers.Peers {
	p, err := peers.Load(file)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	return p
}

func newCluster(t testing.TB, p *peers.Peers, change func(*libcluster.Config)) *libcluster.Cluster {
	config := libcluster.Config{Key: "peers-test", ID: p.Self().ID, Metadata: p.Self().Metadata, Registry: p}
	if change != nil {
		change(&config)
	}
	c, err := libcluster.New(config)
	require.NoError(t, err)
	return c
}

func join(t testing.TB, c *libcluster.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(t, c.Join(ctx))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, c.Leave(ctx))
	})
}

// eventually waits until a condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, patience, 10*time.Millisecond, "%s", what)
}

func member(n int, of *libcluster.Cluster) string {
	for _, m := range of.Members() {
		if m.Index == n {
			return m.ID
		}
	}
	return fmt.Sprint("none of ", len(of.Members()))
}

// entry is one of a file's list.
func entry(t testing.TB, id, address string) any {
	return map[string]any{"host": "localhost", "port": port(t, address), "identifier": id}
}

func port(t testing.TB, address string) int {
	_, text, err := net.SplitHostPort(address)
	require.NoError(t, err)
	number, err := strconv.Atoi(text)
	require.NoError(t, err)
	return number
}
