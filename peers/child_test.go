package peers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// A test binary with childEnv set is an instance: it runs on this file until its standard
// input ends. The other variable is the mode, and after a space the TTL if it is not the
// default. After that the word returning has it leave for a restart, and keeping has it keep its
// place through an outage.
const (
	childEnv  = "PEERS_TEST_FILE"
	childMode = "PEERS_TEST_MODE"
)

// event is a line of a child's.
type event struct {
	At      time.Time
	Kind    string // started, state, primary, acts, idle, fence, wrote, refused, trouble, error, left
	Index   int
	Total   int
	Gen     int64
	Primary string // ID
	Address string // that the primary publishes
	Port    string // server_port in the metadata that the primary publishes
	Listed  string // the same, as this instance's file has it
	Text    string
}

// lookEvery is how often a child looks whether it may act.
const lookEvery = time.Millisecond

func child() int {
	var mu sync.Mutex
	out := json.NewEncoder(os.Stdout)
	say := func(e event) {
		mu.Lock()
		defer mu.Unlock()
		e.At = time.Now()
		_ = out.Encode(e)
	}
	if err := instance(os.Getenv(childEnv), say); err != nil {
		say(event{Kind: "error", Text: err.Error()})
		return 1
	}
	return 0
}

func instance(file string, say func(event)) error {
	p, err := peers.Load(file)
	if err != nil {
		return err
	}
	defer p.Close()
	config := libcluster.Config{
		Key: "peers-test", ID: p.Self().ID, Address: p.Self().Address, Metadata: p.Self().Metadata, Registry: p,
		WatchMembers: true,
	}
	config.Logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), lines(func(line string) {
		say(event{Kind: "trouble", Text: line})
	}), zap.WarnLevel))
	words := strings.Fields(os.Getenv(childMode))
	if err := config.Mode.UnmarshalText([]byte(words[0])); err != nil {
		return err
	}
	if len(words) > 1 {
		if config.TTL, err = time.ParseDuration(words[1]); err != nil {
			return err
		}
	}
	var how []libcluster.LeaveOption
	if slices.Contains(words, "returning") {
		how = append(how, libcluster.Returning(time.Hour))
	}
	if slices.Contains(words, "keeping") {
		config.Outage = libcluster.KeepOnOutage
	}
	var c *libcluster.Cluster
	config.OnRebalance = func(libcluster.State) { say(stateOf(c.View())) }
	if c, err = libcluster.New(config); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		w := writer{file: file, c: c, say: say}
		for lines.Scan() {
			switch order := lines.Text(); order {
			case "grow":
				if err := c.SetWorkers(ctx, 2); err != nil {
					say(event{Kind: "error", Text: err.Error()})
				}
			case "quit": // and go on serving
				leave(c)
				say(event{Kind: "left"})
			default:
				w.obey(ctx, order)
			}
		}
		cancel()
	}()
	say(event{Kind: "started"})
	if err := c.Join(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	act(ctx, p, c, say)
	leave(c, how...)
	say(event{Kind: "left"})
	return nil
}

func leave(c *libcluster.Cluster, how ...libcluster.LeaveOption) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.Leave(ctx, how...) // others may have gone before
}

// stateOf tells of one instant, which may be later than the state of the callback.
func stateOf(v libcluster.View) event {
	e := event{Kind: "state", Index: v.State.Index, Total: v.State.Total, Gen: v.State.Generation}
	for _, m := range v.Members {
		if m.Index == 0 && v.State.Active() {
			e.Primary = m.ID
		}
	}
	return e
}

// primaryNow tells which instance is the primary.
func primaryNow(p *peers.Peers, c *libcluster.Cluster) event {
	primary, ok := c.Primary()
	if !ok {
		return event{Kind: "primary"}
	}
	listed, _ := p.Peer(primary.ID)
	return event{
		Kind: "primary", Primary: primary.ID, Address: primary.Address,
		Port: primary.Metadata["server_port"], Listed: listed.Metadata["server_port"],
	}
}

// act says which instance is the primary, and when this one may begin to act as it, and when it
// may not any more.
func act(ctx context.Context, p *peers.Peers, c *libcluster.Cluster, say func(event)) {
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	acts, last, said := false, time.Time{}, event{}
	for {
		if primary := primaryNow(p, c); primary != said {
			said = primary
			say(primary)
		}
		now, s := time.Now(), c.State() // in this order: it may be stopped in between
		if is := s.Index == 0 && ctx.Err() == nil; is != acts {
			acts = is
			kind := "acts"
			if !acts {
				kind = "idle"
			}
			say(event{Kind: kind, Gen: s.Generation, Text: last.Format(time.RFC3339Nano)})
		}
		last = now
		if ctx.Err() != nil {
			return
		}
		select {
		case <-every.C:
		case <-ctx.Done():
		}
	}
}

// writer writes to the peers' etcd, of which it is a client.
type writer struct {
	file  string
	c     *libcluster.Cluster
	say   func(event)
	fence []clientv3.Cmp
}

// obey takes a fence of the present plan, or writes under the fence that was taken last. It tries
// until that is done.
func (w *writer) obey(ctx context.Context, order string) {
	client, _, err := clientTo(w.file)
	if err != nil {
		w.say(event{Kind: "error", Text: err.Error()})
		return
	}
	defer client.Close()
	for done := false; !done && ctx.Err() == nil; time.Sleep(lookEvery) {
		switch order {
		case "fence":
			if w.fence, err = w.c.EtcdFence(w.c.State()); err == nil {
				w.say(event{Kind: "fence"})
				done = true
			}
		case "write":
			attempt, cancel := context.WithTimeout(ctx, time.Second)
			answer, err := client.Txn(attempt).If(w.fence...).Then(clientv3.OpPut("owner", w.c.ID())).Commit()
			cancel()
			if err == nil {
				w.say(event{Kind: map[bool]string{true: "wrote", false: "refused"}[answer.Succeeded]})
				done = true
			}
		}
	}
}

// lines is told what is logged.
type lines func(string)

func (l lines) Write(text []byte) (int, error) {
	l(string(text))
	return len(text), nil
}

func (lines) Sync() error { return nil }
