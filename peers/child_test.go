package peers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/peers"
)

// A test binary with childEnv set is an instance: it runs on this file until its standard
// input ends. The other variable is the mode, and after a space the TTL if it is not the
// default. A third word, returning, has it leave for a restart.
const (
	childEnv  = "PEERS_TEST_FILE"
	childMode = "PEERS_TEST_MODE"
)

// event is a line of a child's.
type event struct {
	At      time.Time
	Kind    string // ready, state, acts, idle, error, left
	Index   int
	Total   int
	Gen     int64
	Primary string // ID
	Meta    string // its server_port
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
	config := libcluster.Config{Key: "peers-test", ID: p.Self().ID, Metadata: p.Self().Metadata, Registry: p}
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
	if len(words) > 2 {
		how = append(how, libcluster.Returning(time.Hour))
	}
	var c *libcluster.Cluster
	config.OnRebalance = func(libcluster.State) { say(stateOf(p, c.View())) }
	if c, err = libcluster.New(config); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		lines := bufio.NewScanner(os.Stdin)
		for lines.Scan() {
			fmt.Fprintln(os.Stderr, "unknown:", lines.Text())
		}
		cancel()
	}()
	say(event{Kind: "started"})
	if err := c.Join(ctx); err != nil && ctx.Err() == nil {
		return err
	}
	act(ctx, c, say)
	leaving, end := context.WithTimeout(context.Background(), 5*time.Second)
	defer end()
	_ = c.Leave(leaving, how...) // others may have gone before
	say(event{Kind: "left"})
	return nil
}

// stateOf tells of one instant, which may be later than the state of the callback.
func stateOf(p *peers.Peers, v libcluster.View) event {
	e := event{Kind: "state", Index: v.State.Index, Total: v.State.Total, Gen: v.State.Generation}
	for _, m := range v.Members {
		if m.Index == 0 && v.State.Active() {
			e.Primary = m.ID
			primary, _ := p.Peer(m.ID)
			e.Meta = primary.Metadata["server_port"]
		}
	}
	return e
}

// act says when the instance may begin to act as the primary, and when it may not any more.
func act(ctx context.Context, c *libcluster.Cluster, say func(event)) {
	every := time.NewTicker(lookEvery)
	defer every.Stop()
	acts, last := false, time.Time{}
	for {
		s, now := c.State(), time.Now()
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

// lines is told what is logged.
type lines func(string)

func (l lines) Write(text []byte) (int, error) {
	l(string(text))
	return len(text), nil
}

func (lines) Sync() error { return nil }
