//go:build linux && faults

package faults_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
)

// part is what a member in a process of its own is told to be.
type part struct {
	URLs []string
	// Registry is the scheme of the URLs, if it may be another than etcd's.
	Registry string
	Key      string // of a holder, and of a peer that serves only: the others have cluster
	ID       string
	Mode     libcluster.Mode // of an actor
	Client   bool            // a peer that is to have no server
	Workers  int
	TTL      time.Duration
	Acts     string // the file to write to
	Busy     int    // how many goroutines compute beside it, all on one processor; 0: none, on all
}

// partVariable holds a part, as JSON.
const partVariable = "LIBCLUSTER_FAULTS_MEMBER"

// child is a member in a process of its own, which can be killed and frozen.
type child struct {
	*process
	part
}

// act is one read of the state in a child. While it holds a place it acts each
// millisecond, and what it would do is this line.
type act struct {
	// at is when the read began: an act that claims a place was decided later
	// than that.
	at           time.Duration
	index, total int
	generation   int64
}

// joinChild starts a member in a process and returns when it holds a place.
func joinChild(t *testing.T, p part) *child {
	t.Helper()
	p.Acts = filepath.Join(t.TempDir(), p.ID)
	p.Workers = max(p.Workers, 1)
	text, err := json.Marshal(p)
	require.NoError(t, err)
	log, err := os.Create(p.Acts + ".log")
	require.NoError(t, err)
	defer log.Close()
	c := &child{spawn(t, roleMember, log, []string{partVariable + "=" + string(text)}), p}
	t.Cleanup(func() {
		c.kill()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() && len(text) > 0 {
			t.Logf("%s wrote: %s", p.ID, text)
		}
	})
	await(t, patience, p.ID+" to join", func() bool {
		acts := c.acts()
		return len(acts) > 0 && acts[len(acts)-1].index >= 0
	})
	return c
}

// acts returns what the child has done until now.
func (c *child) acts() []act {
	c.t.Helper()
	text, err := os.ReadFile(c.Acts)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	require.NoError(c.t, err)
	text = text[:bytes.LastIndexByte(text, '\n')+1] // without a line that is being written
	var acts []act
	for lines := bufio.NewScanner(bytes.NewReader(text)); lines.Scan(); {
		var a act
		_, err := fmt.Sscan(lines.Text(), &a.at, &a.index, &a.total, &a.generation)
		require.NoError(c.t, err, "%q", lines.Text())
		acts = append(acts, a)
	}
	return acts
}

// lastAct returns when the child last claimed a place of a generation before the
// given one.
func (c *child) lastAct(before int64) (last act, found bool) {
	for _, a := range c.acts() {
		if a.index >= 0 && a.generation < before {
			last, found = a, true
		}
	}
	return last, found
}

// play plays the part that this process was given.
func play(as func(part) error) {
	var p part
	err := json.NewDecoder(strings.NewReader(os.Getenv(partVariable))).Decode(&p)
	if err == nil {
		err = as(p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// playMember is the child's side: it joins, acts on its state until it is told
// to end, and leaves.
func playMember(p part) error {
	acts, err := os.OpenFile(p.Acts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer acts.Close()
	end, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	c, err := libcluster.New(libcluster.Config{
		Key: cluster, ID: p.ID, Workers: p.Workers, TTL: p.TTL, Registry: libcluster.Etcd(p.URLs...),
	})
	if err != nil {
		return err
	}
	if p.Busy > 0 {
		runtime.GOMAXPROCS(1)
	}
	for range p.Busy {
		go func() {
			for end.Err() == nil { // until the process is told to end
			}
		}()
	}
	if err := c.Join(end); err != nil {
		return err
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	active := true
	for end.Err() == nil {
		at := boot()
		s := c.State()
		if s.Active() || active {
			if _, err := fmt.Fprintln(acts, int64(at), s.Index, s.Total, s.Generation); err != nil {
				return err
			}
		}
		active = s.Active()
		<-tick.C
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	return c.Leave(ctx)
}
