// Package testcommand runs a command of this module inside a test, and waits for what it writes.
package testcommand

import (
	"context"
	"crypto/rand"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster/internal/testetcd"
)

var keyOf sync.Map // by test

// Key returns the key of a cluster that a run of a test has for itself: with -count it meets
// nobody of the run before.
func Key(t testing.TB) string {
	key, _ := keyOf.LoadOrStore(t, rand.Text())
	return key.(string)
}

// Console collects what a program writes, and wakes those who wait for it.
type Console struct {
	mu      sync.Mutex // guards what follows
	text    strings.Builder
	changed chan struct{} // closed by the next Write
}

// NewConsole returns an empty console.
func NewConsole() *Console { return &Console{changed: make(chan struct{})} }

func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.changed)
	c.changed = make(chan struct{})
	return c.text.Write(p)
}

func (c *Console) read() (text string, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.text.String(), c.changed
}

// String returns the text so far.
func (c *Console) String() string {
	text, _ := c.read()
	return text
}

// Await waits until the text satisfies done.
func (c *Console) Await(t testing.TB, what string, done func(text string) bool) {
	t.Helper()
	deadline := time.After(testetcd.Patience)
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

// AwaitText waits until the text contains want.
func (c *Console) AwaitText(t testing.TB, want string) {
	t.Helper()
	c.Await(t, want, func(text string) bool { return strings.Contains(text, want) })
}

// Running is a program in this process.
type Running struct {
	Stdout, Stderr *Console
	// Signal tells it to end, as a signal does.
	Signal context.CancelFunc

	status chan int
}

// Start starts a program. It has ended when the test has.
func Start(t testing.TB, program func(ctx context.Context, args []string, stdout, stderr io.Writer) int, args ...string) *Running {
	t.Helper()
	ctx, signal := context.WithCancel(context.Background())
	p := &Running{NewConsole(), NewConsole(), signal, make(chan int, 1)}
	go func() {
		p.status <- program(ctx, args, p.Stdout, p.Stderr)
		close(p.status)
	}()
	t.Cleanup(func() {
		signal()
		<-p.status
	})
	return p
}

// Ends waits for the program and returns its exit status.
func (p *Running) Ends(t testing.TB) int {
	t.Helper()
	select {
	case status, ok := <-p.status:
		require.True(t, ok, "the program has ended before")
		return status
	case <-time.After(testetcd.Patience):
		require.FailNow(t, "the program does not end", "%s", p.Stderr)
	}
	return -1
}
