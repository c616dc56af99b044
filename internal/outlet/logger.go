package outlet

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster/internal/quote"
)

const (
	// mostLines is how many lines wait for a logger that is slow: more than a cluster
	// in trouble says in a minute, and a megabyte or so.
	mostLines = 1000

	// syncTimeout bounds the wait for a line after which the program may end.
	syncTimeout = time.Second
)

// Logger returns a logger that writes with l, but later, so that who logs never waits
// for it. Of l only the question whether a level is enabled is asked at once. Lines
// keep their order and the time at which they were logged; fields are read later, so
// what they refer to must not change.
//
// What others wrote may be in a line, so its text and its fields are quoted as far as they
// are not printable.
//
// What l can't take up is dropped, and how much that was is logged when it can. An l
// that is silent costs nothing, and one that hangs for ever one goroutine.
func Logger(l *zap.Logger) *zap.Logger {
	return l.WithOptions(zap.WrapCore(func(to zapcore.Core) zapcore.Core { return newCore(to) }))
}

// Flush waits until all that was logged with a [Logger] is written, or until ctx ends.
func Flush(ctx context.Context, l *zap.Logger) error {
	if c, ok := l.Core().(*core); ok {
		return c.queue.Flush(ctx)
	}
	return nil
}

// core is a zapcore.Core whose lines another one writes later.
type core struct {
	zapcore.LevelEnabler
	queue  *Queue[line]
	fields []zapcore.Field
}

// line is one that waits.
type line struct {
	zapcore.Entry
	context []zapcore.Field // the logger's
	fields  []zapcore.Field // the line's own
	trouble zapcore.WriteSyncer
}

func newCore(to zapcore.Core) *core {
	var last line // used by the queue's goroutine only
	return &core{LevelEnabler: to, queue: NewQueue(mostLines, func(l line) {
		last = l
		l.write(to)
	}, func(n int) {
		last.Entry = zapcore.Entry{
			Level: zapcore.WarnLevel, Time: time.Now(), LoggerName: last.LoggerName,
			Message: "lines of the log were dropped, because the logger did not take them up in time",
		}
		last.fields = []zapcore.Field{zap.Int("dropped", n)}
		last.write(to)
	})}
}

func (l *line) write(to zapcore.Core) {
	l.Message = quote.Text(l.Message)
	checked := to.Check(l.Entry, nil)
	if checked != nil {
		checked.ErrorOutput = l.trouble
	}
	fields := slices.Concat(l.context, l.fields)
	for i, f := range fields {
		fields[i] = quoted(f)
	}
	checked.Write(fields...)
}

// quoted returns a field of a kind that holds text with the text quoted.
func quoted(f zapcore.Field) zapcore.Field {
	switch f.Type {
	case zapcore.StringType:
		f.String = quote.Text(f.String)
	case zapcore.ErrorType:
		f.Interface = quote.Error(f.Interface.(error))
	}
	return f
}

// With returns a core with more fields, for the same queue.
func (c *core) With(fields []zapcore.Field) zapcore.Core {
	return &core{c.LevelEnabler, c.queue, slices.Concat(c.fields, fields)}
}

// Check asks no more than for the level. Whatever else the other core wants to know
// before it takes a line it is asked later.
func (c *core) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !c.Enabled(e.Level) {
		return checked
	}
	p := &put{core: c}
	p.entry = checked.AddCore(e, p)
	return p.entry
}

// Write has a line written later.
func (c *core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	return (&put{core: c}).Write(e, fields)
}

// Sync waits until all is written, but not for ever.
func (c *core) Sync() error {
	ctx, cancel := context.WithTimeout(context.Background(), syncTimeout)
	defer cancel()
	if err := c.queue.Flush(ctx); err != nil {
		return fmt.Errorf("the log is not written yet: %w", err)
	}
	return nil
}

// put is the core for one line. It knows where to say that writing it has failed.
type put struct {
	*core
	entry *zapcore.CheckedEntry
}

// Write has the line written later.
func (p *put) Write(e zapcore.Entry, fields []zapcore.Field) error {
	l := line{Entry: e, context: p.fields, fields: slices.Clone(fields)}
	if p.entry != nil {
		l.trouble = p.entry.ErrorOutput
	}
	p.queue.Put(l)
	if e.Level > zapcore.ErrorLevel {
		return p.Sync() // the program may be about to end
	}
	return nil
}
