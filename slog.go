package libcluster

import (
	"context"
	"log/slog"
	"maps"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Slog returns a logger for [Config.Logger] that writes with l. Fields keep their names and
// kinds, and levels and times are the same. Source is where a line was logged, if l asks for it.
func Slog(l *slog.Logger) *zap.Logger {
	return zap.New(&slogCore{to: l.Handler, least: zapcore.DebugLevel}, zap.AddCaller())
}

// defaultLogger writes what is wrong to where the program logs at that time.
func defaultLogger() *zap.Logger {
	to := func() slog.Handler { return slog.Default().Handler() }
	return zap.New(&slogCore{to: to, least: zapcore.WarnLevel}, zap.AddCaller()).
		With(zap.String("component", "libcluster"))
}

// slogCore is a zapcore.Core that writes to a slog.Handler.
type slogCore struct {
	to     func() slog.Handler
	least  zapcore.Level
	fields []zapcore.Field
}

// slogLevel returns the level of the same name. Above Error, slog has none.
func slogLevel(l zapcore.Level) slog.Level { return slog.Level(4 * l) }

func (c *slogCore) Enabled(l zapcore.Level) bool {
	return l >= c.least && c.to().Enabled(context.Background(), slogLevel(l))
}

func (c *slogCore) With(fields []zapcore.Field) zapcore.Core {
	return &slogCore{c.to, c.least, slices.Concat(c.fields, fields)}
}

func (c *slogCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

func (c *slogCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	r := slog.NewRecord(e.Time, slogLevel(e.Level), e.Message, e.Caller.PC)
	r.AddAttrs(slogAttrs(slices.Concat(c.fields, fields))...)
	return c.to().Handle(context.Background(), r)
}

func (*slogCore) Sync() error { return nil }

func slogAttrs(fields []zapcore.Field) (attrs []slog.Attr) {
	for i, f := range fields {
		switch f.Type {
		case zapcore.NamespaceType: // all that follows is in it
			return append(attrs, slog.Attr{Key: f.Key, Value: slog.GroupValue(slogAttrs(fields[i+1:])...)})
		case zapcore.ErrorType:
			attrs = append(attrs, slog.Any(f.Key, f.Interface))
		default:
			encoder := zapcore.NewMapObjectEncoder()
			f.AddTo(encoder)
			for _, key := range slices.Sorted(maps.Keys(encoder.Fields)) {
				attrs = append(attrs, slog.Any(key, encoder.Fields[key]))
			}
		}
	}
	return attrs
}
