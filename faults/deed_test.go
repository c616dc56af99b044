//go:build linux && faults

package faults_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// deed is one line of the file that all actors append to. The order of the lines is
// the kernel's. A run is one run of the function that an actor gives to Run, or of the one
// that it gives to RunPartitions: then the index is the partition, of one worker, the total
// the number of partitions, and the generation the partition's token.
type deed struct {
	what string // begin, act, why the run is to stop, or end
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

	// Why the context of a run has ended. The generation is the state's by then.
	moved   = "moved"   // the cluster has re-balanced
	kept    = "kept"    // the same, as it is said, but the state has the same place by the same generation
	fenced  = "fenced"  // the place was lost
	left    = "left"    // the process was told to leave
	unasked = "unasked" // none of these
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
