//go:build faults

package peers_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/peers"
)

func TestTwoLostFoldersWaitForTheirReturn(t *testing.T) {
	t.Parallel()
	all := spawnAll(t, "direct", files(t, 3, nil)...)
	awaitAll(t, "a", 3, all...)
	before, _ := store(t, all[0])
	all[1].kill()
	all[2].kill()
	restore := lose(t, all[1])
	lose(t, all[2])
	b, c := spawn(t, all[1].file, "direct"), spawn(t, all[2].file, "direct")
	b.says(t, "If these are lost for good, stop all and empty every data folder")
	c.says(t, "has no majority")
	idles(t, all[0], b, c)

	b.kill()
	restore()
	b = spawn(t, all[1].file, "direct")
	awaitAll(t, "a", 3, all[0], b, c)
	after, voters := store(t, c)
	require.Equal(t, before, after)
	require.Equal(t, 3, voters)
}

func TestPeersComeAndGoForGood(t *testing.T) {
	t.Parallel()
	list := files(t, 4, nil)
	three := files(t, 3, nil)
	old := spawnAll(t, "direct", three...)
	awaitAll(t, "a", 3, old...)

	// The file of d lists the three.
	config, err := peers.ReadConfig(list[3])
	require.NoError(t, err)
	var entries []any
	for _, file := range three {
		c, err := peers.ReadConfig(file)
		require.NoError(t, err)
		entries = append(entries, entry(t, c.ID, c.Listen))
	}
	lacking := write(t, list[3], map[string]any{"identifier": "d", "listen_port": port(t, config.Listen), "peers": entries[:2]})
	short := spawn(t, lacking, "direct")
	short.says(t, "which this list lacks; add it, or have it removed")
	short.kill()
	d := spawn(t, write(t, list[3], map[string]any{"identifier": "d", "listen_port": port(t, config.Listen), "peers": entries}), "direct")
	awaitAll(t, "a", 4, append(old, d)...)
	_, voters := store(t, d)
	require.Equal(t, 4, voters)

	p, err := peers.Load(d.file)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.ErrorContains(t, p.Remove(ctx, "nobody"), "the cluster has no such peer")
	require.NoError(t, p.Remove(ctx, "d"))
	awaitAll(t, "a", 3, old...)
	d.says(t, "if this peer was removed (libcluster peers remove), empty its data folder")
	d.kill()
	d = spawn(t, d.file, "direct")
	d.says(t, "if this peer was removed (libcluster peers remove), empty its data folder")
	d.kill()
	lose(t, d)
	awaitAll(t, "a", 4, append(old, spawn(t, d.file, "direct"))...)
}

func TestTwoPeersEnterAtOnce(t *testing.T) {
	t.Parallel()
	list := files(t, 5, nil)
	for n, file := range list[:3] { // these know of three only
		c, err := peers.ReadConfig(file)
		require.NoError(t, err)
		var others []any
		for _, p := range c.Peers[:2] {
			others = append(others, entry(t, p.ID, p.Address))
		}
		write(t, file, map[string]any{"identifier": name(n), "listen_port": port(t, c.Listen), "peers": others})
	}
	all := loadAll(t, list)
	joinAll(t, all[:3]...)
	entered := joinAll(t, all[3:]...)
	eventually(t, "five", func() bool { return entered[0].State().Total == 5 && entered[1].State().Total == 5 })
}
