package peers_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster/peers"
)

// process is a child.
type process struct {
	file  string
	id    string
	cmd   *exec.Cmd
	stdin io.WriteCloser
	ended chan struct{}

	mu     sync.Mutex // guards what follows
	events []event
}

// spawn starts a child; command comes before it, as "ip netns exec NAME" does.
func spawn(t testing.TB, file, mode string, command ...string) *process {
	t.Helper()
	config, err := peers.ReadConfig(file)
	require.NoError(t, err)
	command = append(command, os.Args[0])
	p := &process{file: file, id: config.ID, cmd: exec.Command(command[0], command[1:]...), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), childEnv+"="+file, childMode+"="+mode)
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := p.cmd.StdoutPipe()
	require.NoError(t, err)
	p.cmd.Stderr = os.Stderr
	require.NoError(t, p.cmd.Start())
	go func() {
		defer close(p.ended)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				p.mu.Lock()
				p.events = append(p.events, e)
				p.mu.Unlock()
			}
		}
		_ = p.cmd.Wait() // it may have been killed
	}()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			for _, e := range p.all() {
				t.Log(p.id, e.At.Format("05.000"), e.Kind, e.Index, e.Total, e.Gen, e.Primary, strings.TrimSpace(e.Text))
			}
		}
	})
	return p
}

func spawnAll(t testing.TB, mode string, files ...string) (all []*process) {
	for _, file := range files {
		all = append(all, spawn(t, file, mode))
	}
	return all
}

// kill ends the process as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// leave has the process leave, and returns when it has ended.
func (p *process) leave(t testing.TB) {
	require.NoError(t, p.stdin.Close())
	<-p.ended
	_, left := p.last("left")
	require.True(t, left, "%s did not leave", p.id)
}

// order has the process do something, in the order in which it is told.
func (p *process) order(t testing.TB, what ...string) {
	for _, line := range what {
		_, err := io.WriteString(p.stdin, line+"\n")
		require.NoError(t, err)
	}
}

func (p *process) signal(t testing.TB, s syscall.Signal) {
	require.NoError(t, p.cmd.Process.Signal(s))
}

func (p *process) all() []event {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.events)
}

// last returns the last event of a kind.
func (p *process) last(kind string) (event, bool) {
	all := p.all()
	for _, e := range slices.Backward(all) {
		if e.Kind == kind {
			return e, true
		}
	}
	return event{}, false
}

// knows returns when the process has learnt of the state that it is in, if the state has that
// primary and total.
func (p *process) knows(primary string, total int) (time.Time, bool) {
	e, ok := p.last("state")
	return e.At, ok && e.Index >= 0 && e.Primary == primary && e.Total == total
}

// awaitAll waits until all know the primary and the total, and returns when the last learnt it.
func awaitAll(t testing.TB, primary string, total int, all ...*process) (last time.Time) {
	t.Helper()
	for _, p := range all {
		eventually(t, fmt.Sprintf("%s knows primary %s of %d", p.id, primary, total), func() bool {
			at, ok := p.knows(primary, total)
			if ok && at.After(last) {
				last = at
			}
			return ok
		})
	}
	return last
}

// acting are the times for which a process has acted, up to now.
func (p *process) acting() (all [][2]time.Time) {
	var began time.Time
	for _, e := range p.all() {
		switch {
		case e.Kind == "acts":
			began = e.At
		case e.Kind == "idle" && !began.IsZero():
			end, err := time.Parse(time.RFC3339Nano, e.Text) // the last look that found it acting
			if err == nil {
				all = append(all, [2]time.Time{began, end})
			}
			began = time.Time{}
		}
	}
	if !began.IsZero() {
		all = append(all, [2]time.Time{began, time.Now()})
	}
	return all
}

// overlap is for how long two processes have acted at once. One that was killed must be left
// out: nothing says when it ended.
func overlap(all ...*process) time.Duration { return overlapIn(time.Time{}, time.Now(), all...) }

// overlapIn is the same for a part of the time.
func overlapIn(since, until time.Time, all ...*process) (sum time.Duration) {
	for n, p := range all {
		for _, q := range all[n+1:] {
			for _, a := range p.acting() {
				for _, b := range q.acting() {
					begin := slices.MaxFunc([]time.Time{a[0], b[0], since}, time.Time.Compare)
					end := slices.MinFunc([]time.Time{a[1], b[1], until}, time.Time.Compare)
					sum += max(0, end.Sub(begin))
				}
			}
		}
	}
	return sum
}

// leader returns the process whose server leads.
func leader(t testing.TB, all ...*process) (found *process) {
	t.Helper()
	eventually(t, "a server leads", func() bool {
		for _, p := range all {
			if leads(p) {
				found = p
			}
		}
		return found != nil
	})
	return found
}

func leads(p *process) bool { return leadsAt(p.file) }

// leadsAt reports whether the server of a file leads.
func leadsAt(file string) bool {
	status, err := statusAt(file)
	return err == nil && status.Leader == status.Header.MemberId
}

// statusOf asks a process's server.
func statusOf(p *process) (*clientv3.StatusResponse, error) { return statusAt(p.file) }

func statusAt(file string) (*clientv3.StatusResponse, error) {
	client, endpoint, err := clientTo(file)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return client.Status(ctx, endpoint)
}

// clientTo returns a client to the server of a file.
func clientTo(file string) (*clientv3.Client, string, error) {
	config, err := peers.ReadConfig(file)
	if err != nil {
		return nil, "", err
	}
	endpoint := "http://" + config.Listen
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}, Logger: zap.NewNop()})
	return client, endpoint, err
}

// without returns all but one.
func without(one *process, all []*process) []*process {
	return slices.DeleteFunc(slices.Clone(all), func(p *process) bool { return p == one })
}

// active waits until all have a range, in a cluster of all.
func active(t testing.TB, all ...*process) {
	t.Helper()
	for _, p := range all {
		eventually(t, p.id+" is active", func() bool {
			e, ok := p.last("state")
			return ok && e.Index >= 0 && e.Total == len(all)
		})
	}
}

func primaryOf(t testing.TB, all ...*process) *process {
	t.Helper()
	for _, p := range all {
		if e, ok := p.last("state"); ok && e.Index == 0 {
			return p
		}
	}
	require.Fail(t, "no primary")
	return nil
}

// settled waits until the leader is not the primary.
func settled(t testing.TB, all ...*process) {
	t.Helper()
	eventually(t, "the leader is not the primary", func() bool { return leader(t, all...) != primaryOf(t, all...) })
}

// states is how often the processes have been called back.
func states(all ...*process) (sum int) {
	for _, p := range all {
		for _, e := range p.all() {
			if e.Kind == "state" {
				sum++
			}
		}
	}
	return sum
}
