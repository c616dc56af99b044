// Package operator is what the commands of this module share towards the user who runs them:
// signals, a log, and output that nobody waits for.
package operator

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster/internal/quote"
	"github.com/libcluster/libcluster/internal/registryflag"
)

// oneSignal is for how long further signals count as the first one. Who signals a
// process group, as timeout and some supervisors do, besides the process, sends two or
// three at a time.
const oneSignal = 2 * time.Second

// EndBySignal calls end at the first signal that asks the program to end. One that comes
// two seconds later ends the program at once.
func EndBySignal(end func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	if !signal.Ignored(syscall.SIGHUP) { // as nohup has it
		signal.Notify(signals, syscall.SIGHUP)
	}
	go obey(signals, end, func() { signal.Stop(signals) })
}

// obey calls end at the first signal. restore gives signals their usual effect back,
// so that one that comes later ends the program at once.
func obey(signals <-chan os.Signal, end, restore func()) {
	<-signals
	end()
	time.Sleep(oneSignal)
	restore()
}

// forPeople is what a log is written to. It speaks of flags, and what an etcd that is embedded logs
// may be what others wrote.
type forPeople struct{ zapcore.WriteSyncer }

func (p forPeople) Write(lines []byte) (int, error) {
	if _, err := io.WriteString(p.WriteSyncer, quote.Lines(registryflag.InFlags(string(lines)))); err != nil {
		return 0, err
	}
	return len(lines), nil
}

// NewLogger returns a log from level up.
func NewLogger(level zapcore.Level, w zapcore.WriteSyncer) *zap.Logger {
	encoder := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		TimeKey:    "time",
		LevelKey:   "level",
		NameKey:    "logger",
		MessageKey: "message",
		EncodeTime: zapcore.TimeEncoderOfLayout("15:04:05.000"),
		EncodeLevel: func(l zapcore.Level, e zapcore.PrimitiveArrayEncoder) {
			e.AppendString(fmt.Sprintf("%-5s", l.CapitalString()))
		},
		EncodeName:       zapcore.FullNameEncoder,
		EncodeDuration:   zapcore.StringDurationEncoder,
		ConsoleSeparator: " ",
	})
	return zap.New(zapcore.NewCore(encoder, forPeople{w}, level))
}
