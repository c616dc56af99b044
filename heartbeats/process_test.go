package heartbeats_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/dirstore"
	"github.com/libcluster/libcluster/heartbeats"
	"github.com/libcluster/libcluster/kv"
)

// roleVariable has the test's own binary be another process.
const roleVariable = "HEARTBEATS_TEST_ROLE"

// role is what another process does: it is an instance, and says on stdout each index that it has.
type role struct {
	Dir, ID string
	Bind    string // empty: without heartbeats
	Mode    libcluster.Mode
	TTL     time.Duration
}

func play(text string) {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		log.Fatal(err)
	}
	var store kv.Store = dirstore.Dir(r.Dir)
	if r.Bind != "" {
		store = heartbeats.Beside(store, heartbeats.Config{Bind: r.Bind})
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
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test ends
}

// process is another process.
type process struct {
	*exec.Cmd
	testing.TB
	lines chan said
}

// said is what a process has said.
type said struct {
	index, total int
	at           time.Time
}

// spawn starts an instance.
func spawn(t testing.TB, r role) *process {
	t.Helper()
	text, err := json.Marshal(r)
	require.NoError(t, err)
	p := &process{Cmd: exec.Command(os.Args[0]), TB: t, lines: make(chan said, 1000)}
	p.Env = append(os.Environ(), roleVariable+"="+string(text))
	p.Stderr = os.Stderr
	_, err = p.StdinPipe() // it ends with this process
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
				p.lines <- s
			}
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
	for ctx := patience(p.TB); ; {
		select {
		case s := <-p.lines:
			if s.index == index && s.total == total {
				return s.at
			}
		case <-ctx.Done():
			require.FailNow(p.TB, "the process does not say it", "index %d of %d", index, total)
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
	cluster, err := libcluster.New(libcluster.Config{
		Key: "company", ID: "b", Mode: libcluster.ModePlanned, TTL: 20 * time.Second, Logger: zap.NewNop(),
		Registry: libcluster.OnStore(heartbeats.Beside(dirstore.Dir(dir), config)),
	})
	require.NoError(t, err)
	other := spawn(t, role{Dir: dir, ID: "a", Bind: loopback.Bind, Mode: libcluster.ModePlanned, TTL: 20 * time.Second})
	other.until(0, 1)
	require.NoError(t, cluster.Join(patience(t)))
	defer cluster.Leave(patience(t))
	other.until(0, 2)
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
