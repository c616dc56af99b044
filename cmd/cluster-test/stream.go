package main

import (
	"context"
	"io"
	"time"

	"github.com/libcluster/libcluster/internal/outlet"
)

const (
	// mostLines is how many lines wait for a reader that does not read.
	mostLines = 10_000

	// flushTimeout bounds what such a reader can hold up the program's end by.
	flushTimeout = time.Second
)

// stream is standard output or standard error while instances run. Who writes to it
// waits for no reader: that may be in the middle of a callback, and a full pipe would
// hold up the whole cluster. What does not fit any more is dropped and counted.
type stream struct{ queue *outlet.Queue[string] }

// newStream returns a stream to w. It ends the program when w can't be written to.
func newStream(t transcript, w io.Writer, name string) *stream {
	write := func(text string) {
		if _, err := io.WriteString(w, text); err != nil {
			t.failed(name, err)
		}
	}
	return &stream{outlet.NewQueue(mostLines, write, func(n int) {
		t.say("%s was not read in time: %d lines were dropped", name, n)
	})}
}

// Write never blocks. What fails later ends the program then.
func (s *stream) Write(text []byte) (int, error) {
	s.queue.Put(string(text))
	return len(text), nil
}

// Sync has nothing to do: see flush.
func (s *stream) Sync() error { return nil }

// flush waits until all is written, but not for ever.
func (s *stream) flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = s.queue.Flush(ctx) // or it will never be read
}
