package peers_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/peers"
)

const (
	serverB = `{"host": "localhost", "port": 7002, "identifier": "server_b", "metadata": {"server_port": 8002}}`
	serverC = `{"host": "localhost", "port": 7003, "identifier": "server_c", "metadata": {"server_port": 8003}}`
)

// fileOf writes a file of server_a with these peers and more keys.
func fileOf(t *testing.T, entries string, more string) string {
	file := filepath.Join(t.TempDir(), "server_a.json")
	text := `{"identifier": "server_a", "server_port": 8001, "listen_host": "localhost", "listen_port": 7001, "peers": [` + entries + `]` + more + `}`
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

func TestQClustersFilesAreReadAsTheyAre(t *testing.T) {
	for _, id := range []string{"server_a", "server_b", "server_c"} {
		p, err := peers.Load(filepath.Join("testdata", id+".json"))
		require.NoError(t, err)
		require.Equal(t, id, p.Self().ID)
		require.Equal(t, "peers server_a, server_b, server_c", p.String())
	}
	c, err := peers.ReadConfig(filepath.Join("testdata", "server_a.json"))
	require.NoError(t, err)
	require.Equal(t, "localhost:7001", c.Listen)
	require.Equal(t, []peers.Peer{
		{ID: "server_b", Address: "localhost:7002", Metadata: map[string]string{"server_port": "8002"}},
		{ID: "server_c", Address: "localhost:7003", Metadata: map[string]string{"server_port": "8003"}},
	}, c.Peers)
	require.Equal(t, filepath.Join("testdata", "server_a.data"), c.DataDir)
}

func TestPeerWithoutIdentifierHasItsAddress(t *testing.T) {
	p, err := peers.Load(fileOf(t, `{"host": "localhost", "port": 7002}`, ""))
	require.NoError(t, err)
	peer, ok := p.Peer("127.0.0.1:7002")
	require.True(t, ok)
	require.Equal(t, "127.0.0.1:7002", peer.Address)
}

func TestKeysBesideQClusters(t *testing.T) {
	file := fileOf(t, serverB, `, "metadata": {"zone": "x", "weight": 2}, "data_dir": "here", "election": "500ms", "patient": true`)
	c, err := peers.ReadConfig(file)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(filepath.Dir(file), "here"), c.DataDir)
	require.Equal(t, 500*time.Millisecond, c.Election)
	require.True(t, c.Patient)
	p, err := peers.New(c)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"zone": "x", "weight": "2"}, p.Self().Metadata)
	require.Equal(t, 5*time.Second, p.Capabilities().TTL)
}

// seven is more peers than there can be beside server_a.
func seven() string {
	var all []string
	for n := range 7 {
		all = append(all, fmt.Sprintf(`{"host": "h%d", "port": 7001}`, n))
	}
	return strings.Join(all, ",")
}

func TestMistakesInAFileAreNamed(t *testing.T) {
	for _, c := range []struct{ entries, more, want string }{
		{`7`, "", "peers[0]: 7 must be an object"},
		{serverB + `, {"host": "localhost", "port": "7003"}`, "", `peers[1].port: "7003" must be a number`},
		{`{"host": "localhost"}`, "", "peers[0].port: 0 must be 1 to 65535"},
		{`{"host": "localhost", "port": 70000}`, "", "peers[0].port: 70000 must be 1 to 65535"},
		{`{"port": 7002}`, "", "peers[0].host: is missing"},
		{`{"host": 5, "port": 7002}`, "", "peers[0].host: 5 must be a string"},
		{`{"host": "0.0.0.0", "port": 7002}`, "", `peers[0].host, port: host "0.0.0.0" is none that others can reach`},
		{`{"host": "http://x", "port": 7002}`, "", "peers[0].host, port: "},
		{`{"host": "x", "port": 7002, "metadata": 5}`, "", "peers[0].metadata: 5 must be an object"},
		{`{"host": "x", "port": 7002, "identifier": 5}`, "", "peers[0].identifier: 5 must be a string"},
		{serverB + "," + serverB, "", "peers[1].host, port: 127.0.0.1:7002 is that of entry 0 already"},
		{serverB + `, {"host": "localhost", "port": 7004, "identifier": "server_b"}`, "", `peers[1].identifier: "server_b" is that of entry 0 already`},
		{`{"host": "127.0.0.1", "port": 7001, "identifier": "b"}`, "", "127.0.0.1:7001 is this instance's own address"},
		{`{"host": "x", "port": 7002}, {"host": "X", "port": 7002}`, "", "peers[1].host, port: x:7002 is that of entry 0 already"},
		{`{"host": "fe80::1%eth0", "port": 7002}`, "", "peers[0].host, port: the host must be a name or an address only"},
		{seven(), "", "peers: 8 peers with this one, and there can be 7"},
		{serverB, `, "election": "fast"`, `election: "fast" must be a duration`},
		{serverB, `, "election": 5`, "election: 5 must be a duration"},
		{serverB, `, "election": "20ms"`, "election: 20ms must be 100ms to 10s"},
		{serverB, `, "tls": {"cert": "c"}`, "tls: give cert, key and ca"},
		{serverB, `, "tls": {"cert": "c", "key": "k", "ca": "a"}`, "tls: TLS: open "},
		{serverB, `, "tls": {"cert": 5}`, "tls.cert: 5 must be a file's name"},
		{serverB, `, "patient": 1`, "patient: 1 must be true or false"},
		{serverB, `, "listen_host": "0.0.0.0"`, "listen_host: \"0.0.0.0\" does not say where the others reach this instance"},
		{serverB, `, "listen_port": 0`, "listen_host, listen_port: port \"0\" must be 1 to 65535"},
		{serverB, `, "identifier": ""`, "identifier: is missing"},
		{serverB, `, "identifier": "a/b"`, "data_dir: is missing"},
		{serverB, `, "metadata": []`, "metadata: [] must be an object"},
		{serverB, `, "peers": {}`, "peers: {} must be a list"},
		{serverB, `,`, "byte "},
	} {
		file := fileOf(t, c.entries, c.more)
		_, err := peers.Load(file)
		require.Error(t, err, c.want)
		require.Contains(t, err.Error(), file)
		require.Contains(t, err.Error(), c.want)
	}
}

func TestFileWithoutPeersIsAMistake(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a.json")
	require.NoError(t, os.WriteFile(file, []byte(`{"identifier": "a", "listen_port": 7001}`), 0o600))
	_, err := peers.Load(file)
	require.ErrorContains(t, err, "peers: is missing")
	require.NoError(t, os.WriteFile(file, []byte(`{"identifier": "a", "listen_port": 7001, "peers": null}`), 0o600))
	_, err = peers.Load(file)
	require.ErrorContains(t, err, "peers: is missing")
	require.NoError(t, os.WriteFile(file, []byte(`{"identifier": "a", "listen_port": 7001, "peers": []}`), 0o600))
	_, err = peers.Load(file)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte(`{"identifier": "a", "peers": []}`), 0o600))
	_, err = peers.Load(file)
	require.ErrorContains(t, err, "there are none, and this instance has no server of its own")
	_, err = peers.Load(filepath.Join(t.TempDir(), "none.json"))
	require.ErrorIs(t, err, os.ErrNotExist)
	require.NoError(t, os.WriteFile(file, []byte(`[]`), 0o600))
	_, err = peers.Load(file)
	require.ErrorContains(t, err, "must be an object")
}

func TestMistakesInAConfigAreNamed(t *testing.T) {
	for want, c := range map[string]peers.Config{
		"ID: is missing":                {},
		"DataDir: is missing":           {ID: "a", Listen: "localhost:7001"},
		`Listen: "x" must be HOST:PORT`: {ID: "a", Listen: "x", DataDir: "d"},
		`Peers[0].Address: "x" must be`: {ID: "a", Listen: "localhost:7001", DataDir: "d", Peers: []peers.Peer{{Address: "x"}}},
		"Election: ":                    {ID: "a", Listen: "localhost:7001", DataDir: "d", Election: time.Minute},
	} {
		_, err := peers.New(c)
		require.ErrorContains(t, err, "peers: "+want)
	}
}

func TestOwnEntrySaysWhereOthersReachIt(t *testing.T) {
	p, err := peers.Load(fileOf(t, `{"host": "10.0.0.1", "port": 7009, "identifier": "server_a"},`+serverB, `, "listen_host": "0.0.0.0"`))
	require.NoError(t, err)
	require.Equal(t, "10.0.0.1:7009", p.Self().Address)
	require.Equal(t, "peers server_a, server_b", p.String())
}

func TestAddressHasOneForm(t *testing.T) {
	for given, want := range map[string]string{
		"LocalHost:7001": "127.0.0.1:7001", "Node1.Example:7001": "node1.example:7001", "10.0.0.1:07001": "10.0.0.1:7001",
		"[0:0:0:0:0:0:0:1]:7001": "[::1]:7001", "[2001:DB8::00A]:7001": "[2001:db8::a]:7001", "[::ffff:10.0.0.1]:7001": "10.0.0.1:7001",
	} {
		p, err := peers.New(peers.Config{ID: "a", Listen: given, DataDir: "d", Peers: []peers.Peer{{ID: "b", Address: "other:7001"}}})
		require.NoError(t, err)
		require.Equal(t, want, p.Self().Address)
		p, err = peers.New(peers.Config{ID: "a", Peers: []peers.Peer{{ID: "b", Address: given}}})
		require.NoError(t, err)
		b, _ := p.Peer("b")
		require.Equal(t, want, b.Address)
	}
}

func TestInstanceWithoutAPortIsAClient(t *testing.T) {
	p, err := peers.New(peers.Config{ID: "x", Peers: []peers.Peer{{Address: "localhost:7001"}}})
	require.NoError(t, err)
	require.Empty(t, p.Self().Address)
}
