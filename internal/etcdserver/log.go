package etcdserver

import (
	"fmt"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Logger returns the logger for an etcd: l, but from the level up that is returned,
// which is Warn at least. Where etcd would end the process with nothing but a
// line in a log, which may be silent, ends is called with all that etcd says about why it
// cannot go on. ends must not return: it panics, or ends its goroutine.
func Logger(l *zap.Logger, ends func(why string)) (*zap.Logger, zap.AtomicLevel) {
	level := zap.NewAtomicLevelAt(max(zap.WarnLevel, l.Level()))
	return l.Named("etcd").WithOptions(
		zap.IncreaseLevel(level),
		zap.WrapCore(func(core zapcore.Core) zapcore.Core { return quiet{core} }),
		zap.WithFatalHook(reason(ends)),
		zap.WithPanicHook(reason(ends)),
	), level
}

// noise is what etcd says at every start, or at every fast one, and what is not
// so here: nobody is served over HTTP, nobody logs in, and what it could not
// find out in the first moments it finds out in the next ones.
var noise = map[string]bool{
	"Running http and grpc server on single port. This is not recommended for production.": true,
	"simple token is not cryptographically signed":                                         true,
	"Failed to detect schema version":                                                      true,
	"failed to update storage version":                                                     true,
}

// quiet is a core without the noise.
type quiet struct{ zapcore.Core }

func (q quiet) With(fields []zapcore.Field) zapcore.Core { return quiet{q.Core.With(fields)} }

func (q quiet) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if noise[e.Message] {
		return checked
	}
	return q.Core.Check(e, checked)
}

// reason is told all that etcd says about why it cannot go on. By itself etcd would
// end the process, or panic without the cause.
type reason func(why string)

func (r reason) OnWrite(e *zapcore.CheckedEntry, fields []zapcore.Field) {
	details := zapcore.NewMapObjectEncoder()
	for _, field := range fields {
		field.AddTo(details)
	}
	r(fmt.Sprintf("%s: %v", e.Message, details.Fields))
}
