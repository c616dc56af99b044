package libcluster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/libcluster/libcluster"
)

func TestSlogGetsEachLineAsItIs(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	handler := slog.NewJSONHandler(&out, &slog.HandlerOptions{AddSource: true, Level: slog.LevelDebug, ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if source, is := a.Value.Any().(*slog.Source); is {
			return slog.String(slog.SourceKey, source.File[strings.LastIndex(source.File, "/")+1:])
		}
		return a
	}})
	log := libcluster.Slog(slog.New(handler).With("app", "mailer"))
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	log = log.WithOptions(zap.WithClock(clockAt(at))).With(zap.String("instance", "a"))
	log.Debug("one", zap.Int("index", 2), zap.Strings("members", []string{"a", "b"}), zap.Skip())
	log.Info("two", zap.Duration("pause", time.Second), zap.Time("deadline", at), zap.Bool("primary", true))
	log.Warn("three", zap.Error(errors.New("refused")), zap.Error(nil))
	log.With(zap.Namespace("cluster")).Error("four", zap.Int("total", 7), zap.Object("weights", zapcore.ObjectMarshalerFunc(
		func(e zapcore.ObjectEncoder) error { e.AddInt("b", 1); return nil })))

	const head = `{"time":"2026-01-02T03:04:05.000000006Z","level":"`
	require.Equal(t, head+`DEBUG","source":"slog_test.go","msg":"one","app":"mailer","instance":"a","index":2,"members":["a","b"]}
`+head+`INFO","source":"slog_test.go","msg":"two","app":"mailer","instance":"a","pause":1000000000,"deadline":"2026-01-02T03:04:05.000000006Z","primary":true}
`+head+`WARN","source":"slog_test.go","msg":"three","app":"mailer","instance":"a","error":"refused"}
`+head+`ERROR","source":"slog_test.go","msg":"four","app":"mailer","instance":"a","cluster":{"total":7,"weights":{"b":1}}}
`, out.String())
}

func ExampleSlog() {
	handler := slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}})
	cluster, err := libcluster.New(libcluster.Config{
		Key: "mailer", ID: "node1", Workers: 2, Registry: libcluster.Static(0, 7),
		Logger: libcluster.Slog(slog.New(handler)),
	})
	if err != nil {
		log.Fatal(err)
	}
	if err := cluster.Join(context.Background()); err != nil {
		log.Fatal(err)
	}
	if err := cluster.Leave(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// level=INFO msg=re-balanced instance=node1 cluster=mailer/production generation=1 total=7 was_total=0 index=0 was_index=-1 workers=2
	// level=INFO msg=re-balanced instance=node1 cluster=mailer/production generation=1 total=5 was_total=7 index=-1 was_index=0 workers=2
}

func TestSlogIsNotAskedToWriteWhatIsNotEnabled(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := libcluster.Slog(slog.New(slog.NewTextHandler(&out, nil)))
	require.Equal(t, zap.InfoLevel, log.Level())
	log.Debug("nothing")
	require.Empty(t, out.String())
}

type clockAt time.Time

func (c clockAt) Now() time.Time                       { return time.Time(c) }
func (clockAt) NewTicker(d time.Duration) *time.Ticker { return time.NewTicker(d) }

// It is not parallel: the default is one for all.
func TestWithoutALoggerTroubleIsInTheProgramsLog(t *testing.T) {
	lines := make(chan []byte, 100)
	before := slog.Default()
	defer slog.SetDefault(before)
	c, err := libcluster.New(libcluster.Config{
		Key: key(t), ID: "told-by-default", Registry: libcluster.Etcd("http://127.0.0.1:1"),
	})
	require.NoError(t, err)
	slog.SetDefault(slog.New(slog.NewJSONHandler(lineChannel(lines), &slog.HandlerOptions{Level: slog.LevelDebug})))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	joining := make(chan error, 1)
	go func() { joining <- c.Join(ctx) }()
	var line struct{ Level, Component, Instance, Error string }
	for line.Instance != "told-by-default" { // another test's may be ending
		select {
		case text := <-lines:
			require.NoError(t, json.Unmarshal(text, &line))
		case <-time.After(patience):
			require.Fail(t, "nothing is logged")
		}
	}
	require.Equal(t, "WARN", line.Level)
	require.Equal(t, "libcluster", line.Component)
	require.Contains(t, line.Error, "127.0.0.1:1")
	cancel()
	require.Error(t, <-joining)
}

// lineChannel takes up what it has room for.
type lineChannel chan<- []byte

func (c lineChannel) Write(line []byte) (int, error) {
	select {
	case c <- bytes.Clone(line):
	default:
	}
	return len(line), nil
}
