//go:build linux && faults

package faults_test

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testnet"
	"github.com/libcluster/libcluster/peers"
)

const (
	// voterCount is how many actors run a server of the peers. The others are clients of theirs.
	voterCount = 3
	peersPort  = 7001
)

// company is actors that are their own registry: what happens to one of the voters happens to
// its server too. Each has a host of its own, which can be cut off from all others: there are no
// lines between an actor and a server, since a voter reaches its own without a network, and one
// line in front of each peer could not tell by which other peer it is used.
type company struct {
	*testnet.Network
	voters  []*actor
	folder  string   // of the files, and of the data
	servers []any    // for the files
	urls    []string // of the servers
	client  *clientv3.Client
	plans   planWatch
}

func peersStage(t *testing.T) stage {
	c := &company{Network: testnet.New(t, actorCount), folder: t.TempDir()}
	c.Join()
	for n := range voterCount {
		host := testnet.Address(n)
		c.servers = append(c.servers, map[string]any{"identifier": actorID(n), "host": host, "port": peersPort})
		c.urls = append(c.urls, fmt.Sprintf("http://%s:%d", host, peersPort))
	}
	c.client = dial(t, c.urls...)
	c.plans.begin(t, c.client)
	return stage{scheme: "peers", house: c.house, voters: voterCount, strike: c.strike, plans: c.allPlans}
}

// peersOf opens the registry of a part, which has a file.
func peersOf(p part) (libcluster.Registry, func(), error) {
	none := func() {}
	config, err := peers.ReadConfig(strings.TrimPrefix(p.URLs[0], "peers:"))
	if err != nil {
		return nil, none, err
	}
	if p.Client {
		config = config.Client()
	}
	registry, err := peers.New(config)
	if err != nil {
		return nil, none, err
	}
	return registry, func() {
		if err := registry.Close(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}

// house gives an actor its host and its file.
func (c *company) house(a *actor, host int) {
	c.Helper()
	content := map[string]any{"identifier": a.ID, "peers": c.servers}
	if host < voterCount {
		c.voters = append(c.voters, a)
		content["listen_host"], content["listen_port"] = testnet.Address(host), peersPort
	}
	text, err := json.Marshal(content)
	require.NoError(c, err)
	file := filepath.Join(c.folder, a.ID+".json")
	require.NoError(c, os.WriteFile(file, text, 0o600))
	a.URLs, a.host = []string{"peers:" + file}, c.On(host)
	a.cut = func() (mend func()) { return c.isolate(host) }
}

// isolate cuts a host off from all others, or only has them hear nothing of it.
func (c *company) isolate(host int) (mend func()) {
	if rand.N(3) > 0 {
		c.Cut(host)
		return func() { c.Mend(host) }
	}
	c.Rule(host, "OUTPUT", "-o", "eth0", "-j", "DROP")
	return func() { c.Pass(host) }
}

// strike has something happen to the leader of the servers, or to all of them.
func (c *company) strike(x *troupe) {
	length := time.Second/2 + rand.N(5*time.Second)
	if rand.N(4) == 0 {
		x.note("the voters", "all voters killed", length)
		for _, a := range c.voters {
			if p := a.on(); p != nil && a.mend == nil {
				p.kill()
			}
		}
		x.blight(length, func() {
			for _, a := range c.voters {
				if a.on() == nil {
					x.start(a)
				}
			}
		})
		return
	}
	a := c.leader()
	if a == nil || a.mend != nil || a.on() == nil {
		return
	}
	switch p := a.on(); rand.N(3) {
	case 0:
		x.note(a.ID, "the leader of the peers killed", 0)
		p.kill()
		x.start(a)
	case 1:
		x.note(a.ID, "the leader of the peers frozen", length)
		p.freeze()
		a.ail(length, p.thaw)
	case 2:
		x.note(a.ID, "the leader of the peers cut off", length)
		a.ail(length, a.cut())
	}
}

// leader returns the actor whose server leads; nil if none says so.
func (c *company) leader() *actor {
	for n, url := range c.urls {
		ctx, cancel := context.WithTimeout(c.Context(), 200*time.Millisecond)
		status, err := c.client.Status(ctx, url)
		cancel()
		if err == nil && status.Leader != 0 && status.Leader == status.Header.MemberId {
			return c.voters[n]
		}
	}
	return nil
}

// allPlans returns all plans that there have been. All servers have ended with the actors, so
// it has them serve once more, on their data.
func (c *company) allPlans(t *testing.T) history {
	t.Helper()
	for _, a := range c.voters {
		p := a.part
		p.Key, p.Client, p.Acts = "no "+cluster, false, filepath.Join(c.folder, a.ID+".afterwards")
		text, err := json.Marshal(p)
		require.NoError(t, err)
		log, err := os.Create(p.Acts + ".log")
		require.NoError(t, err)
		defer log.Close()
		server := spawnAt(t, a.host, roleActor, log, []string{partVariable + "=" + string(text)})
		defer server.kill()
	}
	var last int64
	await(t, patience, "the peers to serve once more", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		plan, err := c.client.Get(ctx, planKey)
		if err == nil {
			require.Len(t, plan.Kvs, 1)
			last = plan.Kvs[0].ModRevision
		}
		return err == nil
	})
	return c.plans.until(t, last)
}

// planWatch hears of all plans as they come, since peers forget them after some minutes.
type planWatch struct {
	mu   sync.Mutex // guards what follows
	all  []*clientv3.Event
	last int64 // the revision of the last one
	err  error // it hears of no more
}

// begin begins to hear, until the client ends.
func (w *planWatch) begin(t *testing.T, client *clientv3.Client) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for answer := range client.Watch(context.Background(), planKey, clientv3.WithRev(1)) {
			w.mu.Lock()
			w.all, w.err = append(w.all, answer.Events...), cmp.Or(w.err, answer.Err())
			for _, e := range answer.Events {
				w.last = e.Kv.ModRevision
			}
			w.mu.Unlock()
		}
	}()
	t.Cleanup(func() {
		client.Close()
		<-ended
	})
}

// until returns the plans when it has heard of the one of a revision.
func (w *planWatch) until(t *testing.T, revision int64) (all history) {
	t.Helper()
	await(t, patience, "all plans to be heard of", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		require.NoError(t, w.err)
		return w.last >= revision
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.all {
		all = append(all, readPlan(t, string(e.Kv.Value)))
	}
	return all
}
