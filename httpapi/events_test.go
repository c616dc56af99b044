package httpapi_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/httpapi"
	"github.com/libcluster/libcluster/libclustertest"
)

// stream is a client of events.
type stream struct {
	body  io.ReadCloser
	lines *bufio.Reader
	end   context.CancelFunc
	err   error // why it has ended; io.EOF: the server has ended it properly
}

// event is one, or a comment.
type event struct {
	id      int64
	name    string
	data    []byte
	comment string
}

func listen(t testing.TB, url string, header ...string) *stream {
	t.Helper()
	ctx, end := context.WithTimeout(t.Context(), watchdog)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	s := &stream{body: a.Body, lines: bufio.NewReader(a.Body), end: end}
	t.Cleanup(s.close)
	require.Equal(t, http.StatusOK, a.StatusCode)
	require.Equal(t, "text/event-stream", a.Header.Get("Content-Type"))
	return s
}

func (s *stream) close() {
	s.end()
	_ = s.body.Close()
}

// read returns the next event or comment, or false at the end.
func (s *stream) read(t testing.TB) (e event, ok bool) {
	t.Helper()
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			s.err = err
			return e, false
		}
		line = strings.TrimSuffix(line, "\n")
		name, value, _ := strings.Cut(line, ": ")
		switch {
		case line == "" && (e.data != nil || e.comment != ""):
			return e, true
		case line == "":
			e = event{} // retry
		case name == "":
			e.comment = value
		case name == "id":
			e.id, err = strconv.ParseInt(value, 10, 64)
			require.NoError(t, err)
		case name == "event":
			e.name = value
		case name == "data":
			e.data = []byte(value)
		}
	}
}

// next returns the next event.
func (s *stream) next(t testing.TB) event {
	t.Helper()
	for {
		e, ok := s.read(t)
		require.True(t, ok, "the stream has ended")
		if e.comment == "" {
			return e
		}
	}
}

// until reads views until one is as wanted.
func (s *stream) until(t testing.TB, wanted func(view map[string]any) bool) (all []event) {
	t.Helper()
	for {
		e := s.next(t)
		if e.name != "view" {
			continue
		}
		all = append(all, e)
		if wanted(valid(t, "view", e.data)) {
			return all
		}
	}
}

func hasMembers(n int) func(map[string]any) bool {
	return func(view map[string]any) bool { return len(view["members"].([]any)) == n }
}

func handler(t testing.TB, c *libcluster.Cluster, options ...httpapi.Option) *httpapi.Handler {
	t.Helper()
	h, err := httpapi.New(c, options...)
	require.NoError(t, err)
	t.Cleanup(h.Close)
	return h
}

func TestEventsTellOfEachChange(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	a := join(t, registry, "a")
	events := listen(t, show(t, a)+"/v1/events")
	require.Equal(t, "history", events.next(t).name)
	events.until(t, hasMembers(1))
	b := join(t, registry, "b", workers(2))
	last := events.until(t, hasMembers(2))
	view := valid(t, "view", last[len(last)-1].data)
	require.Equal(t, "b joined", view["change"].(map[string]any)["text"])
	require.Equal(t, 3.0, view["state"].(map[string]any)["total"])
	leave(t, b)
	last = events.until(t, hasMembers(1))
	require.Equal(t, "b gone", valid(t, "view", last[len(last)-1].data)["change"].(map[string]any)["text"])
	leave(t, a)
	events.until(t, func(view map[string]any) bool {
		state := view["state"].(map[string]any)
		return state["phase"] == "left" && state["index"] == -1.0 && state["why"] != nil
	})
}

// says reports whether the line of the time line holds a text.
func says(text string) func(view map[string]any) bool {
	return func(view map[string]any) bool {
		return strings.Contains(view["change"].(map[string]any)["text"].(string), text)
	}
}

func TestEventsTellThatAnAssignmentIsReserved(t *testing.T) {
	t.Parallel()
	for _, m := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			registry := libclustertest.New()
			a, b := join(t, registry, "a", mode(m)), join(t, registry, "b", mode(m))
			events := listen(t, show(t, a)+"/v1/events")
			events.until(t, hasMembers(2))
			ctx, cancel := context.WithTimeout(t.Context(), watchdog)
			defer cancel()
			require.NoError(t, b.Leave(ctx, libcluster.Returning(time.Hour)))
			events.until(t, says("b left for a restart, and what it holds is reserved"))
			join(t, registry, "b", mode(m))
			events.until(t, says("b back from a restart"))
		})
	}
}

func TestEventsGoOnWhereTheyWere(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	base := show(t, join(t, registry, "a")) + "/v1/events"
	events := listen(t, base)
	first := events.until(t, hasMembers(1))[0]
	for n := range 5 {
		join(t, registry, fmt.Sprint("b", n))
	}
	all := events.until(t, hasMembers(6))
	for i, e := range all {
		require.Equal(t, first.id+1+int64(i), e.id, "IDs have no gap")
	}
	id := strconv.FormatInt(first.id, 10)
	for _, again := range []*stream{
		listen(t, base, "Last-Event-ID", id), listen(t, base+"?since="+id),
		listen(t, base+"?since=0", "Last-Event-ID", id), // the browser's own word counts
	} {
		for _, want := range all {
			require.Equal(t, want, again.next(t), "the same events, without a history")
		}
	}
	// What is not kept, or is of another process, gets the whole picture.
	newest := all[len(all)-1]
	for _, unknown := range []string{"", "0", "17", strconv.FormatInt(newest.id+1000, 10)} {
		again := listen(t, base, "Last-Event-ID", unknown)
		changes := valid(t, "history", again.next(t).data)["changes"].([]any)
		require.Equal(t, float64(newest.id), changes[len(changes)-1].(map[string]any)["id"])
		require.Equal(t, newest, again.next(t))
	}
}

// However many changes there have been, what is kept is bounded, and a reader that comes back too late
// gets the newest.
func TestWhatIsKeptIsBounded(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	a := join(t, registry, "a")
	base := show(t, a) + "/v1/events"
	events := listen(t, base)
	first := events.until(t, hasMembers(1))[0]
	for n := range 600 {
		registry.Put("mailer/production", "b", fmt.Append(nil, n+1))
		events.until(t, func(view map[string]any) bool { return view["state"].(map[string]any)["total"] == float64(n+2) })
	}
	again := listen(t, base, "Last-Event-ID", strconv.FormatInt(first.id, 10))
	require.Len(t, valid(t, "history", again.next(t).data)["changes"], 60)
	newest := again.next(t)
	require.Equal(t, 601.0, valid(t, "view", newest.data)["state"].(map[string]any)["total"])
	// Of those that are kept the oldest can still be had.
	late := listen(t, base, "Last-Event-ID", strconv.FormatInt(newest.id-256, 10))
	require.Equal(t, newest.id-255, late.next(t).id)
	require.Equal(t, "history", listen(t, base, "Last-Event-ID", strconv.FormatInt(newest.id-257, 10)).next(t).name)
}

// A client that never reads is dropped. Until then it holds one event, and neither the cluster nor
// another client notices.
func TestClientThatNeverReadsIsDropped(t *testing.T) { // alone, since it looks at the heap
	registry := libclustertest.New()
	a := join(t, registry, "a")
	h := handler(t, a)
	h.SetPatience(200*time.Millisecond, 15*time.Second)
	dropped := make(chan time.Duration, 1)
	base := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		h.ServeHTTP(w, r)
		if r.URL.Query().Has("deaf") {
			dropped <- time.Since(began)
		}
	}))
	for n := range 300 { // so that an event has some size
		registry.Put("mailer/production", fmt.Sprintf("node%s%d", strings.Repeat("n", 200), n), []byte("1"))
	}
	require.Eventually(t, func() bool { return len(a.View().Members) == 301 }, watchdog, time.Millisecond)

	deaf, err := net.Dial("tcp", strings.TrimPrefix(base, "http://"))
	require.NoError(t, err)
	defer deaf.Close()
	require.NoError(t, deaf.(*net.TCPConn).SetReadBuffer(4096))
	_, err = io.WriteString(deaf, "GET /v1/events?deaf HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)

	good := listen(t, base+"/v1/events")
	before := memory()
	sent := 0
	for n := 2; ; n++ {
		registry.Put("mailer/production", "b", fmt.Append(nil, n))
		for seen := false; !seen; {
			e := good.next(t)
			sent += len(e.data)
			seen = bytes.Contains(e.data, fmt.Appendf(nil, `"total":%d,`, 301+n))
		}
		select {
		case after := <-dropped:
			grown := memory() - before
			t.Logf("dropped after %v, %d changes and %d KiB of events; the heap has grown by %d KiB", after, n-1, sent>>10, grown>>10)
			require.Less(t, grown, int64(16<<20), "what is kept of all, and no queue")
			require.Equal(t, libcluster.PhaseActive, a.Phase())
			return
		default:
		}
	}
}

// memory is what is in use.
func memory() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func TestQuietStreamShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	h := handler(t, join(t, libclustertest.New(), "a"))
	h.SetPatience(time.Second, time.Millisecond)
	events := listen(t, serve(t, h)+"/v1/events")
	for range 3 {
		for {
			e, ok := events.read(t)
			require.True(t, ok)
			if e.comment != "" {
				require.Equal(t, "alive", e.comment)
				break
			}
		}
	}
}

func TestTooManyListenersAreRefused(t *testing.T) {
	t.Parallel()
	base := show(t, join(t, libclustertest.New(), "a"))
	var all []*stream
	for range 256 {
		all = append(all, listen(t, base+"/v1/events"))
	}
	a := get(t, base+"/v1/events")
	require.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
	require.Equal(t, "too_many", a.is(t, "error")["error"].(map[string]any)["code"])
	require.Equal(t, "10", a.Header.Get("Retry-After"))
	all[0].close()
	require.Eventually(t, func() bool {
		ctx, end := context.WithTimeout(t.Context(), watchdog)
		defer end()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/events", nil)
		require.NoError(t, err)
		a, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer a.Body.Close()
		return a.StatusCode == http.StatusOK
	}, watchdog, 10*time.Millisecond)
}

func TestCloseEndsStreams(t *testing.T) {
	t.Parallel()
	a := join(t, libclustertest.New(), "a")
	h := handler(t, a)
	base := serve(t, h)
	events := listen(t, base+"/v1/events")
	events.next(t)
	h.Close()
	h.Close()
	for ended := false; !ended; {
		_, more := events.read(t)
		ended = !more
	}
	require.Equal(t, io.EOF, events.err)
	require.Equal(t, http.StatusOK, get(t, base+"/v1/state").StatusCode)
	require.Equal(t, http.StatusServiceUnavailable, get(t, base+"/v1/coverage").StatusCode)
	require.Equal(t, libcluster.PhaseActive, a.Phase(), "the cluster is left alone")
}

// hidden hides what a http.ResponseWriter can do besides.
type hidden struct{ http.ResponseWriter }

func TestStreamNeedsAWriterThatCanBeBounded(t *testing.T) {
	t.Parallel()
	h := handler(t, join(t, libclustertest.New(), "a"))
	base := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(hidden{w}, r) }))
	a := get(t, base+"/v1/events")
	require.Equal(t, http.StatusInternalServerError, a.StatusCode)
	require.Contains(t, string(a.body), "Unwrap")
}
