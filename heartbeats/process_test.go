package heartbeats_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"maps"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/kv"
)

// roleVariable has the test's own binary be another process.
const roleVariable = "HEARTBEATS_TEST_ROLE"

// role is what another process does: it is an instance, and says on stdout each index that it has,
// and what heartbeats log.
type role struct {
	Dir, ID string
	Bind    string // empty: without heartbeats
	Require bool
	Mode    libcluster.Mode
	TTL     time.Duration
}

func play(text string) {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		log.Fatal(err)
	}
	var store kv.Store = dirstore.Dir(r.Dir)
	sent := newPackets()
	if r.Bind != "" {
		logger := zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(zapcore.EncoderConfig{MessageKey: "m"}), zapcore.Lock(os.Stdout), zap.InfoLevel))
		beside := heartbeats.Beside(store, heartbeats.Config{Bind: r.Bind, Require: r.Require, Logger: logger})
		beside.Through(func(string) {}, sent.one)
		store = beside
	}
	cluster, err := libcluster.New(libcluster.Config{
		Key: "company", ID: r.ID, Mode: r.Mode, TTL: r.TTL, Registry: libcluster.OnStore(store), Logger: zap.NewNop(),
		OnRebalance: func(s libcluster.State) { fmt.Println("index", s.Index, s.Total, time.Now().UnixNano()) },
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := cluster.Join(context.Background()); err != nil {
		log.Fatal(err)
	}
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); { // until the test ends
		others, err := strconv.Atoi(orders.Text())
		if err != nil {
			log.Fatal(err)
		}
		sent.more(others)
		fmt.Println(exchanged)
	}
}

// exchanged is what a process says when it is told to send to so many others, and has.
const exchanged = "exchanged"

// packets counts those that a process sends.
type packets struct {
	sync.Cond
	to map[string]int // by address
}

func newPackets() *packets { return &packets{sync.Cond{L: &sync.Mutex{}}, map[string]int{}} }

// one counts a packet, which is not lost.
func (p *packets) one(to string) (lost bool) {
	p.L.Lock()
	defer p.L.Unlock()
	p.to[to]++
	p.Broadcast()
	return false
}

// more waits until two more have been sent to each of some others: so the first of them was.
func (p *packets) more(others int) {
	p.L.Lock()
	defer p.L.Unlock()
	before := maps.Clone(p.to)
	few := func() bool {
		n := 0
		for to, sent := range p.to {
			if sent >= before[to]+2 {
				n++
			}
		}
		return n < others
	}
	for few() {
		p.Wait()
	}
}

// process is another process.
type process struct {
	*exec.Cmd
	testing.TB
	stdin io.Writer
	lines chan said
}

// said is what a process has said.
type said struct {
	index, total int
	at           time.Time
	log          string // of heartbeats; empty: it has said its index
}

// spawn starts an instance; before comes before its command, as "ip netns exec NAME" does.
func spawn(t testing.TB, r role, before ...string) *process {
	t.Helper()
	text, err := json.Marshal(r)
	require.NoError(t, err)
	command := append(before, os.Args[0])
	p := &process{Cmd: exec.Command(command[0], command[1:]...), TB: t, lines: make(chan said, 1000)}
	p.Env = append(os.Environ(), roleVariable+"="+string(text))
	p.Stderr = os.Stderr
	p.stdin, err = p.StdinPipe() // it ends with this process
	require.NoError(t, err)
	out, err := p.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, p.Start())
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var s said
			var nano int64
			if _, err := fmt.Sscanf(lines.Text(), "index %d %d %d", &s.index, &s.total, &nano); err == nil {
				s.at = time.Unix(0, nano)
			} else {
				s = said{log: lines.Text()}
			}
			p.lines <- s
		}
	}()
	t.Cleanup(func() {
		_ = p.Process.Kill()
		<-read
		_ = p.Wait()
	})
	return p
}

// until waits until a process says that it has an index of a total, and returns when it did.
func (p *process) until(index, total int) time.Time {
	p.Helper()
	return p.await(fmt.Sprintf("index %d of %d", index, total), func(s said) bool {
		return s.log == "" && s.index == index && s.total == total
	}).at
}

// exchange tells a process to send to so many others.
func (p *process) exchange(others int) {
	p.Helper()
	_, err := fmt.Fprintln(p.stdin, others)
	require.NoError(p.TB, err)
}

// stops waits until a process says that it has no index any more.
func (p *process) stops() {
	p.Helper()
	p.await("index -1", func(s said) bool { return s.index == -1 })
}

// await waits until a process says something.
func (p *process) await(what string, is func(said) bool) said {
	p.Helper()
	for ctx := patience(p.TB); ; {
		select {
		case s := <-p.lines:
			if is(s) {
				return s
			}
		case <-ctx.Done():
			require.FailNow(p.TB, "the process does not say it", what)
		}
	}
}

// Its lease ends because its port refuses, and no time has to pass for that.
func TestLeaseOfAProcessThatIsKilledIsEnded(t *testing.T) {
	t.Parallel()
	dir := shm(t)
	core, logs := observer.New(zap.InfoLevel)
	config := loopback
	config.Logger = zap.New(core)
	store, sent := heartbeats.Beside(dirstore.Dir(dir), config), newPackets()
	store.Through(func(string) {}, sent.one)
	cluster, err := libcluster.New(libcluster.Config{
		Key: "company", ID: "b", Mode: libcluster.ModePlanned, TTL: 20 * time.Second, Logger: zap.NewNop(),
		Registry: libcluster.OnStore(store),
	})
	require.NoError(t, err)
	other := spawn(t, role{Dir: dir, ID: "a", Bind: loopback.Bind, Mode: libcluster.ModePlanned, TTL: 20 * time.Second})
	other.until(0, 1)
	require.NoError(t, cluster.Join(patience(t)))
	defer cluster.Leave(patience(t))
	other.until(0, 2)
	sent.more(1) // so the other is known here
	other.exchange(1)
	other.await(exchanged, func(s said) bool { return s.log == exchanged }) // and is heard
	space, err := dirstore.Dir(dir).Open(patience(t), "company/"+libcluster.DefaultEnv)
	require.NoError(t, err)
	defer space.Close()
	record, _, err := space.Get(patience(t), "a")
	require.NoError(t, err)
	require.NotZero(t, record.Owner)

	require.NoError(t, other.Process.Kill())
	require.Eventually(t, func() bool { return cluster.State().Primary() && cluster.State().Total == 1 }, watchdog, time.Millisecond)
	ended := logs.FilterMessageSnippet("was ended").All()
	require.Len(t, ended, 1)
	require.Equal(t, fmt.Sprintf("%x", int64(record.Owner)), ended[0].ContextMap()["other"])
	require.True(t, strings.HasPrefix(ended[0].ContextMap()["why"].(string), "its port refuses"))
}
