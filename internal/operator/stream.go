package operator

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

// Stream is standard output or standard error while instances run. Who writes to it
// waits for no reader: that may be in the middle of a callback, and a full pipe would
// hold up the whole cluster. What does not fit any more is dropped and counted.
type Stream struct{ queue *outlet.Queue[string] }

// NewStream returns a stream to w. failed is told when w can't be written to, and dropped
// how many lines were not written.
func NewStream(w io.Writer, failed func(error), dropped func(n int)) *Stream {
	write := func(text string) {
		if _, err := io.WriteString(w, text); err != nil {
			failed(err)
		}
	}
	return &Stream{outlet.NewQueue(mostLines, write, dropped)}
}

// Write never blocks. What fails later is told then.
func (s *Stream) Write(text []byte) (int, error) {
	s.queue.Put(string(text))
	return len(text), nil
}

// Sync has nothing to do: see Flush.
func (s *Stream) Sync() error { return nil }

// Flush waits until all is written, but not for ever.
func (s *Stream) Flush() {
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	_ = s.queue.Flush(ctx) // or it will never be read
}
