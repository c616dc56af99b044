package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testetcd"
)

// patience bounds every wait in these tests.
const patience = testetcd.Patience

// unfenced is a TTL within which a machine that is busy does renew a record.
const unfenced = "2m"

// asProgram, set in its environment, has the test binary be the program.
const asProgram = "CLUSTER_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	testetcd.Main(m)
}

func etcdURL(t *testing.T) string { return testetcd.URL(t) }

var keyOf sync.Map // by test

// key is that of a cluster which a run of a test has for itself: with -count it meets
// nobody of the run before.
func key(t *testing.T) string {
	key, _ := keyOf.LoadOrStore(t, rand.Text())
	return key.(string)
}

// console collects what a program writes, and wakes those who wait for it.
type console struct {
	mu      sync.Mutex // guards what follows
	text    strings.Builder
	changed chan struct{} // closed by the next Write
}

func newConsole() *console { return &console{changed: make(chan struct{})} }

func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
	return c.text.Write(p)
}

func (c *console) read() (text string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String(), c.changed
}

func (c *console) String() string {
	text, _ := c.read()
	return text
}

// await waits until the text satisfies done.
func (c *console) await(t *testing.T, what string, done func(text string) bool) {
	t.Helper()
	deadline := time.After(patience)
	for {
		text, changed := c.read()
		if done(text) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			require.FailNow(t, "waited in vain for "+what, "so far:\n%s", text)
		}
	}
}

func (c *console) awaitText(t *testing.T, want string) {
	t.Helper()
	c.await(t, want, func(text string) bool { return strings.Contains(text, want) })
}

// records returns the lines of --json so far.
func records(t *testing.T, text string) []record {
	t.Helper()
	var all []record
	for line := range strings.Lines(text) {
		if !strings.HasSuffix(line, "\n") {
			break // not written to its end yet
		}
		var r record
		require.NoError(t, json.Unmarshal([]byte(line), &r), line)
		all = append(all, r)
	}
	return all
}

// awaitPlace waits until the newest state of an instance is this one.
func (c *console) awaitPlace(t *testing.T, instance string, index, total int) {
	t.Helper()
	c.await(t, fmt.Sprintf("%s at %d of %d", instance, index, total), func(text string) bool {
		var last record
		for _, r := range records(t, text) {
			if r.Instance == instance {
				last = r
			}
		}
		return last.Instance != "" && last.Index == index && last.Total == total
	})
}

// program under test, in this process.
type running struct {
	stdout, stderr *console
	signal         context.CancelFunc
	status         chan int
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, signal := context.WithCancel(context.Background())
	p := &running{newConsole(), newConsole(), signal, make(chan int, 1)}
	go func() {
		p.status <- run(ctx, args, p.stdout, p.stderr)
		close(p.status)
	}()
	t.Cleanup(func() {
		signal()
		<-p.status
	})
	return p
}

// ends waits for the program and returns its exit status.
func (p *running) ends(t *testing.T) int {
	t.Helper()
	select {
	case status, ok := <-p.status:
		require.True(t, ok, "the program has ended before")
		return status
	case <-time.After(patience):
		require.FailNow(t, "the program does not end", "%s", p.stderr)
	}
	return -1
}
