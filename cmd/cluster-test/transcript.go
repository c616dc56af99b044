package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/operator"
	"github.com/libcluster/libcluster/internal/quote"
)

const program = "cluster-test"

// output is where the program says things: to people on standard error, and
// with --json to programs on standard output. What belongs together is one
// Write, so that the lines of several instances, and of the log, never mix.
type output struct {
	stderr zapcore.WriteSyncer // locked, and the log's too
	stdout zapcore.WriteSyncer // locked
	json   bool
	end    func()      // called when there is nobody to write for
	broken atomic.Bool // end has been called
}

// transcript is what the program says of itself or of one of its instances.
type transcript struct {
	*output
	prefix string // of every line
	indent string // of the lines in a block that are not the first
}

func newTranscript(o *output) transcript { return transcript{output: o, prefix: program + ": "} }

// of returns the transcript of one instance among several.
func (t transcript) of(instance string) transcript {
	t.prefix += instance + ": "
	t.indent = t.prefix
	return t
}

// say writes one line. What others wrote is quoted.
func (t transcript) say(format string, args ...any) {
	t.write(t.stderr, "standard error", t.prefix+quote.Text(fmt.Sprintf(format, args...))+"\n")
}

// rebalanced writes the block that says where this instance is now.
func (t transcript) rebalanced(mode libcluster.Mode, s libcluster.State) {
	if mode == libcluster.ModeCooperative {
		t.write(t.stderr, "standard error", fmt.Sprintf("%scluster has re-balanced:\n"+
			"%s   instance partitions:   %s\n"+
			"%s   instance thread count: %d\n"+
			"%s   total partitions:      %d\n",
			t.prefix, t.indent, cmp.Or(partitionsOf(s), "none"), t.indent, s.Workers, t.indent, s.Total))
		return
	}
	t.write(t.stderr, "standard error", fmt.Sprintf("%scluster has re-balanced:\n"+
		"%s   instance index:        %d\n"+
		"%s   instance thread count: %d\n"+
		"%s   total thread count:    %d\n",
		t.prefix, t.indent, s.Index, t.indent, s.Workers, t.indent, s.Total))
}

// partitionsOf returns which partitions a state holds, as text; "" for none.
func partitionsOf(s libcluster.State) string {
	return libcluster.PartitionRanges(func(yield func(int) bool) {
		for p := range s.Held() {
			if !yield(p.Number) {
				return
			}
		}
	})
}

// The events of --json. Of each instance the first is joined and the last is
// left.
const (
	joined     = "joined"     // the first state
	rebalanced = "rebalanced" // another assignment, another worker count or another total
	fenced     = "fenced"     // lost the assignment: not renewed in time, record gone, or ID taken
	rejoined   = "rejoined"   // has an assignment again
	stopped    = "stopped"    // has no assignment until the next plan, for which all stop
	left       = "left"       // the last state
)

// record is one line of --json.
type record struct {
	Time       string `json:"time"`
	Instance   string `json:"instance"`
	Index      int    `json:"index"`
	Workers    int    `json:"workers"`
	Total      int    `json:"total"`
	Partitions string `json:"partitions,omitempty"`
	Generation int64  `json:"generation"`
	Primary    bool   `json:"primary"`
	Event      string `json:"event"`
}

// record writes one line of JSON, if asked for.
func (t transcript) record(at time.Time, instance, event string, s libcluster.State) {
	if !t.json {
		return
	}
	line, err := json.Marshal(record{
		at.UTC().Format(operator.TimeForm), instance, s.Index, s.Workers, s.Total, partitionsOf(s), s.Generation, s.Primary(), event,
	})
	if err != nil { // strings and numbers always marshal
		panic(err)
	}
	t.write(t.stdout, "standard output", string(line)+"\n")
}

// write ends the program when it can't: a reader that has gone wants no more.
func (t transcript) write(w io.Writer, name, s string) {
	if _, err := io.WriteString(w, s); err != nil {
		t.failed(name, err)
	}
}

func (t transcript) failed(name string, err error) {
	if t.broken.Swap(true) {
		return
	}
	t.say("cannot write to %s, will terminate: %v", name, err)
	t.end()
}

// waitingFor does what may take long, and says after a while what it is waiting for,
// and why as soon as trouble knows.
func (t transcript) waitingFor(what string, trouble func() string, do func() error) error {
	return operator.WaitingFor(t.say, what, trouble, do)
}

// newStream returns a stream to w. It ends the program when w can't be written to.
func newStream(t transcript, w io.Writer, name string) *operator.Stream {
	failed := func(err error) { t.failed(name, err) }
	return operator.NewStream(w, failed, func(n int) {
		t.say("%s was not read in time: %d lines were dropped", name, n)
	})
}
