//go:build linux && faults

package faults_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
)

// deed is one line of the file that all actors append to. The order of the lines is
// the kernel's. A run is one run of the function that an actor gives to Run.
type deed struct {
	what string // begin, act or end
	id   string
	life int64 // of the process: no other has the same
	run  int

	// An act follows from one look at the state that has found a place. The look
	// began after at, and it ended before by, and before the deadline that it
	// returned. Of the others at is when the line was about to be written.
	at, by, deadline      time.Duration
	index, workers, total int
	generation            int64
}

const (
	begin = "begin" // a run has begun, and has not looked yet
	acts  = "act"
	end   = "end" // it is about to return
)

// line is written before any other look, with one write: it is the file's next one.
// One that a kill has cut off has no end, and does not spoil the next.
func (d deed) line() []byte {
	return fmt.Appendf(nil, "\n%s %s %d %d %d %d %d %d %d %d %d ;", d.what, d.id, d.life, d.run,
		d.at, d.by, d.deadline, d.index, d.workers, d.total, d.generation)
}

// readDeeds returns the lines of a file, and how many were cut off; if last is not 0,
// of only so many bytes.
func readDeeds(t *testing.T, name string, last int64) (deeds []deed, cut int) {
	t.Helper()
	file, err := os.Open(name)
	require.NoError(t, err)
	defer file.Close()
	if last > 0 {
		info, err := file.Stat()
		require.NoError(t, err)
		_, err = file.Seek(max(0, info.Size()-last), io.SeekStart)
		require.NoError(t, err)
	}
	text, err := io.ReadAll(file)
	require.NoError(t, err)
	for line := range bytes.Lines(text) {
		fields := strings.Fields(string(line))
		switch {
		case len(fields) == 0:
			continue
		case len(fields) != 12 || fields[11] != ";":
			cut++
			continue
		}
		d := deed{what: fields[0], id: fields[1]}
		number := func(n int) int64 {
			i, err := strconv.ParseInt(fields[n], 10, 64)
			require.NoError(t, err, "%q", line)
			return i
		}
		d.life, d.run = number(2), int(number(3))
		d.at, d.by, d.deadline = time.Duration(number(4)), time.Duration(number(5)), time.Duration(number(6))
		d.index, d.workers, d.total, d.generation = int(number(7)), int(number(8)), int(number(9)), number(10)
		deeds = append(deeds, d)
	}
	return deeds, cut
}

const (
	// actorTTL lets an actor sit out most losses of an etcd leader.
	actorTTL = 3 * time.Second

	actEvery = 5 * time.Millisecond

	// drainTimeout is shorter than the longest time that an actor takes to stop.
	drainTimeout = time.Second
)

// playActor is an actor's side: it acts as often as it can for as long as the state
// that it has just read allows, and takes a while to stop.
func playActor(p part) error {
	file, err := os.OpenFile(p.Acts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	until, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log, err := zap.NewDevelopment() // read if the test fails
	if err != nil {
		return err
	}
	registry, closeRegistry, err := registryOf(p)
	if err != nil {
		return err
	}
	defer closeRegistry()
	c, err := libcluster.New(libcluster.Config{
		Key: cluster, ID: p.ID, Workers: p.Workers, TTL: p.TTL, Mode: libcluster.ModeExclusive,
		Logger: log, DrainTimeout: drainTimeout, Registry: registry,
	})
	if err != nil {
		return err
	}
	d := deed{id: p.ID, life: int64(boot())}
	write := func(what string) error {
		d.what = what
		_, err := file.Write(d.line())
		return err
	}
	err = c.Run(until, func(ctx context.Context, _ libcluster.State) error {
		d.run++
		d.at = boot()
		if err := write(begin); err != nil {
			return err
		}
		tick := time.NewTicker(actEvery)
		defer tick.Stop()
		for ctx.Err() == nil {
			d.at = boot()
			s := c.State()
			d.by = boot()
			if s.Active() {
				d.deadline = boot() + time.Until(s.Deadline)
				d.index, d.workers, d.total, d.generation = s.Index, s.Workers, s.Total, s.Generation
				time.Sleep(rand.N(actEvery / 2)) // what comes before a deed, and can be interrupted
				if err := write(acts); err != nil {
					return err
				}
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		time.Sleep(windingDown())
		d.at = boot()
		return write(end)
	})
	if errors.Is(err, libcluster.ErrInstanceTaken) || until.Err() != nil {
		return nil
	}
	return err
}

// windingDown is how long it takes to stop: little, now and then a while, and
// sometimes longer than it may.
func windingDown() time.Duration {
	switch n := rand.N(40); {
	case n == 0:
		return drainTimeout + rand.N(2*time.Second)
	case n < 6:
		return rand.N(400 * time.Millisecond)
	}
	return rand.N(5 * time.Millisecond)
}
