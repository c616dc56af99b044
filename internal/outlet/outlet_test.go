package outlet_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/libcluster/libcluster/internal/outlet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sink is what lines are written to. It can be closed and opened like a tap.
type sink struct {
	zapcore.Encoder
	mu    sync.Mutex // guards what follows
	shut  chan struct{}
	err   error
	lines []string
}

func newSink() *sink {
	return &sink{Encoder: zapcore.NewJSONEncoder(zapcore.EncoderConfig{MessageKey: "m", NameKey: "n", LineEnding: " "})}
}

func (s *sink) core() zapcore.Core { return zapcore.NewCore(s.Encoder, s, zap.InfoLevel) }

func (s *sink) block() (open func()) {
	shut := make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shut = shut
	return func() { close(shut) }
}

func (s *sink) Write(text []byte) (int, error) {
	s.mu.Lock()
	shut := s.shut
	s.mu.Unlock()
	if shut != nil {
		<-shut
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, strings.TrimSpace(string(text)))
	return len(text), s.err
}

func (s *sink) Sync() error { return nil }

func (s *sink) written() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.lines...)
}

func TestLinesKeepTheirOrderAndTheirFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		log := outlet.Logger(zap.New(s.core()).With(zap.Int("given", 1))).Named("x").With(zap.Int("a", 2))
		var expected []string
		for n := range 100 {
			log.Info("line", zap.Int("n", n))
			expected = append(expected, fmt.Sprintf(`{"n":"x","m":"line","given":1,"a":2,"n":%d}`, n))
		}
		log.Debug("not enabled")
		synctest.Wait()
		require.Equal(t, expected, s.written())
	})
}

func TestLineHasTheTimeAndTheCallerOfItsLogging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, lines := observer.New(zap.InfoLevel)
		shut := make(chan struct{})
		slow := zap.New(core, zap.AddCaller(), zap.AddStacktrace(zap.WarnLevel),
			zap.Hooks(func(zapcore.Entry) error { <-shut; return nil }))
		start := time.Now()
		outlet.Logger(slow).Warn("line")
		time.Sleep(time.Minute)
		close(shut)
		synctest.Wait()
		require.Equal(t, 1, lines.Len())
		line := lines.All()[0]
		require.Equal(t, start, line.Time)
		require.Contains(t, line.Caller.File, "outlet_test.go")
		require.Contains(t, line.Stack, "TestLineHasTheTimeAndTheCallerOfItsLogging")
	})
}

func TestBlockedLoggerHoldsUpNobodyAndSaysLaterWhatWasDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		open := s.block()
		log := outlet.Logger(zap.New(s.core())).Named("x").With(zap.String("instance", "a"))
		log.Info("first")
		synctest.Wait() // it is being written
		start := time.Now()
		for n := range 5000 {
			log.Info("line", zap.Int("n", n))
		}
		require.Zero(t, time.Since(start))
		require.Equal(t, 1, writers(), "one goroutine, however many lines wait")
		require.ErrorContains(t, log.Sync(), "not written yet")
		require.Equal(t, time.Second, time.Since(start))

		open()
		synctest.Wait()
		log.Info("afterwards")
		synctest.Wait()
		lines := s.written()
		require.Len(t, lines, 1+1000+1+1)
		require.Contains(t, lines[1000], `"n":999`)
		require.Equal(t, `{"n":"x","m":"lines of the log were dropped, because the logger did not take them up in time",`+
			`"instance":"a","dropped":4000}`, lines[1001])
		require.Contains(t, lines[1002], "afterwards")
		require.NoError(t, log.Sync())
		require.Zero(t, writers(), "none, when nothing is to be written")
	})
}

// writers counts the goroutines that write.
func writers() int {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	return strings.Count(string(stacks), "created by github.com/libcluster/libcluster/internal/outlet.")
}

func TestSilentLoggerNeedsNoGoroutine(t *testing.T) {
	log := outlet.Logger(zap.NewNop())
	log.Error("line")
	require.Zero(t, writers())
	require.Nil(t, log.Check(zap.ErrorLevel, "line"))
}

// A core may look at more than the level, as one that samples does.
func TestCoreDecidesItselfWhatItTakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		sampled := zap.New(zapcore.NewSamplerWithOptions(s.core(), time.Second, 2, 0))
		log := outlet.Logger(sampled)
		for range 10 {
			log.Info("line")
		}
		synctest.Wait()
		require.Len(t, s.written(), 2)
	})
}

func TestFailureToWriteIsSaidWhereTheLoggerSaysIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, said := newSink(), newSink()
		s.err = errors.New("no space")
		outlet.Logger(zap.New(s.core(), zap.ErrorOutput(said))).Info("line")
		synctest.Wait()
		require.Len(t, said.written(), 1)
		require.Contains(t, said.written()[0], "no space")
	})
}

func TestLineAfterWhichTheProgramEndsIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		log := outlet.Logger(zap.New(s.core()))
		require.Panics(t, func() { log.Panic("line") })
		require.Len(t, s.written(), 1)

		open, start := s.block(), time.Now()
		require.Panics(t, func() { log.Panic("line") })
		require.Equal(t, time.Second, time.Since(start), "but not for ever")
		open()
	})
}

func TestFlushEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newSink()
		open := s.block()
		log := outlet.Logger(zap.New(s.core()))
		require.NoError(t, outlet.Flush(t.Context(), log))
		log.Info("line")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		start := time.Now()
		require.ErrorIs(t, outlet.Flush(ctx, log), context.DeadlineExceeded)
		require.Equal(t, time.Minute, time.Since(start))
		open()
		require.NoError(t, outlet.Flush(t.Context(), log))
		require.NoError(t, outlet.Flush(t.Context(), zap.NewExample()), "of another logger there is nothing to wait for")
	})
}
