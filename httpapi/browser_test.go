//go:build browser

package httpapi_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/libclustertest"
)

// browser is a tab of a Chromium of the test's own.
type browser struct {
	t   *testing.T
	ctx context.Context
}

// open starts a Chromium and opens a page in it. What the page reports as an error, such as what its
// policy forbids, fails the test, unless it has a text that is tolerated.
func open(t *testing.T, url string, tolerated ...string) browser {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.WindowSize(1280, 900))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // which the administrator cannot have
	}
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(func() {
		require.NoError(t, chromedp.Cancel(ctx))
		end()
	})
	require.NoError(t, chromedp.Do(ctx), "no Chromium; on Debian it is the package chromium")
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		switch e := event.(type) {
		case *runtime.EventExceptionThrown:
			t.Errorf("the page: %s %v", e.ExceptionDetails.Text, e.ExceptionDetails.Exception)
		case *log.EventEntryAdded:
			known := slices.ContainsFunc(tolerated, func(text string) bool { return strings.Contains(e.Entry.Text, text) })
			if e.Entry.Level == log.EntryLevelError && !known {
				t.Errorf("the page: %s %s", e.Entry.Text, e.Entry.URL)
			}
		}
	}))
	b := browser{t, ctx}
	b.do(chromedp.Navigate(url))
	return b
}

func (b browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, watchdog)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, actions...))
}

// call has the browser do what it does for developers.
func call[P, R any](b browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, watchdog)
	defer cancel()
	_, err := chromedp.Call(ctx, command, params)
	require.NoError(b.t, err)
}

// value returns what an action does, or an expression is on the page.
func value[T any](b browser, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, watchdog)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err)
	return v
}

// sees waits until the page shows these members, each as its ID and what it holds.
func (b browser) sees(want ...string) {
	b.t.Helper()
	require.EventuallyWithT(b.t, func(c *assert.CollectT) {
		assert.Equal(c, want, value[[]string](b, `[...document.querySelectorAll("#members tbody tr[data-live]")]
			.map(r => r.querySelector("bdi").textContent + " " + r.querySelector(".holds").textContent)`))
	}, watchdog, 50*time.Millisecond)
}

// shows waits until an expression is true on the page.
func (b browser) shows(expression string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool { return value[bool](b, expression) }, watchdog, 50*time.Millisecond, "%s", expression)
}

// photograph keeps what the page looks like: in light and dark, wide and on a phone.
func (b browser) photograph(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		for device, width := range map[string]int64{"wide": 1280, "phone": 390} {
			call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
				{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
			}})
			call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
				Width: width, Height: 900, DeviceScaleFactor: 1.5, Mobile: device == "phone",
			})
			b.shows(`document.documentElement.scrollWidth <= window.innerWidth`) // nothing to scroll sideways
			value[bool](b, `document.getAnimations().forEach(a => a.finish()) === undefined`)
			ctx, cancel := context.WithTimeout(b.ctx, watchdog)
			png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			cancel()
			require.NoError(b.t, err)
			file := filepath.Join(b.t.ArtifactDir(), fmt.Sprintf("%s-%s-%s.png", name, device, scheme))
			require.NoError(b.t, os.WriteFile(file, png, 0o600))
		}
	}
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{})
	call(b, emulation.ClearDeviceMetricsOverride, cdp.Empty{})
}

// stays marks the document, and returns what fails if the page has been loaded anew.
func (b browser) stays() (check func()) {
	b.t.Helper()
	require.True(b.t, value[bool](b, `window.sameDocument = true`))
	return func() {
		b.t.Helper()
		require.True(b.t, value[bool](b, `window.sameDocument === true`), "the page was loaded anew")
	}
}

func TestBrowserSeesAJoinAndACrashWithoutReload(t *testing.T) {
	registry := libclustertest.New()
	short := func(c *libcluster.Config) { c.TTL = 2 * time.Second }
	n1 := join(t, registry, "node1", workers(2), short)
	join(t, registry, "node2", short)
	join(t, registry, "node3", workers(4), short, func(c *libcluster.Config) { c.Address, c.Version = "10.0.0.3:8080", "1.10" })
	page := open(t, show(t, n1))
	same := page.stays()
	page.sees("node1 0–1", "node2 2", "node3 3–6")
	page.shows(`document.getElementById("covered").textContent === "yes"`)
	page.shows(`document.getElementById("live").textContent === "live"`)
	color := value[string](page, `document.querySelector("#members tbody tr:nth-child(3)").className`)
	page.photograph("direct")

	join(t, registry, "node2b", workers(2), short)
	page.sees("node1 0–1", "node2 2", "node2b 3–4", "node3 5–8")
	require.Equal(t, color, value[string](page, `document.querySelector("#members tbody tr:nth-child(4)").className`), "the colour stays")
	page.shows(`document.querySelector("#changes tbody tr td:last-child").textContent.includes("node2b joined")`)
	page.photograph("join")

	registry.Cut("node2b") // as if it had crashed
	page.sees("node1 0–1", "node2 2", "node3 3–6")
	page.shows(`document.querySelector("#changes tbody tr td:last-child").textContent.includes("node2b gone")`)
	page.photograph("crash")
	same()
	registry.HealAll()
}

// In mode cooperative a newcomer gets partitions of all, and the application of one of them takes its
// time to stop: it is seen to be waited for, and then the hand-over.
func TestBrowserSeesAHandOverWithoutReload(t *testing.T) {
	registry := libclustertest.New()
	stop := make(chan struct{})
	partitions := func(c *libcluster.Config) { c.Mode, c.Partitions = libcluster.ModeCooperative, 24 }
	slow := func(c *libcluster.Config) { c.OnRevoked = func([]libcluster.Partition) { <-stop } }
	a := join(t, registry, "a", partitions, slow, workers(2))
	page := open(t, show(t, a))
	same := page.stays()
	page.sees("a 0–23")
	b := instance(t, registry, "b", partitions)
	joined := make(chan error, 1)
	go func() { joined <- b.Join(context.Background()) }()
	page.shows(`document.querySelectorAll("#members tr.waited").length === 1`)
	page.photograph("waited")
	close(stop)
	require.NoError(t, <-joined)
	page.sees("a 0–15", "b 16–23")
	page.shows(`document.querySelectorAll("#members tr.waited").length === 0`)

	join(t, registry, "c", partitions)
	page.shows(`document.querySelectorAll("#members tr[data-live]").length === 3`)
	held := value[string](page, `[...document.querySelectorAll("#members .holds")].map(e => e.textContent).join()`)
	require.Regexp(t, `,`, held)
	page.photograph("handover")
	same()
}

// What is reserved for a restart is marked, and what a stranger has put.
func TestBrowserMarksWhatNobodyActsOn(t *testing.T) {
	registry := libclustertest.New()
	a := join(t, registry, "node1", workers(2))
	b := join(t, registry, "node2", workers(3))
	registry.Put("mailer/production", "node3", []byte("2"))
	page := open(t, show(t, a))
	page.sees("node1 0–1", "node2 2–4", "node3 5–6")
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	require.NoError(t, b.Leave(ctx, libcluster.Returning(time.Hour)))
	page.shows(`document.querySelector("#members tr.reserved bdi")?.textContent === "node2"`)
	page.shows(`document.querySelector("#members tr.orphan bdi")?.textContent === "node3"`)
	page.shows(`document.getElementById("covered").textContent === "no"`)
	page.photograph("reserved")
}

// All stop, and all start: a change in mode exclusive.
func TestBrowserSeesAllStop(t *testing.T) {
	registry := libclustertest.New()
	stop := make(chan struct{})
	slow := func(c *libcluster.Config) {
		c.OnRebalance = func(s libcluster.State) {
			if !s.Active() {
				<-stop
			}
		}
	}
	exclusive := mode(libcluster.ModeExclusive)
	a := join(t, registry, "a", exclusive)
	b := join(t, registry, "b", exclusive, workers(2), slow)
	page := open(t, show(t, a))
	page.sees("a 0", "b 1–2")
	c := instance(t, registry, "c", exclusive)
	joined := make(chan error, 1)
	go func() { joined <- c.Join(context.Background()) }()
	page.shows(`document.querySelector("#members tr.waited bdi")?.textContent === "b"`)
	page.shows(`document.getElementById("phase").textContent === "waiting"`)
	page.shows(`document.getElementById("total").textContent === "3"`) // this instance counts
	page.shows(`document.getElementById("wrong").textContent.includes("the cluster waits for b, for")`)
	page.photograph("exclusive")
	close(stop)
	require.NoError(t, <-joined)
	page.sees("a 0", "b 1–2", "c 3")
	page.shows(`document.getElementById("covered").textContent === "yes"`)
	require.Equal(t, libcluster.PhaseActive, b.Phase())
}

// A page that is left open through many changes does not grow.
func TestBrowserKeepsTheDocumentBounded(t *testing.T) {
	registry := libclustertest.New()
	a := join(t, registry, "a")
	page := open(t, show(t, a))
	page.sees("a 0")
	elements := func() int { return value[int](page, `document.querySelectorAll("*").length`) }
	change := func(n int) {
		id := fmt.Sprint("b", n) // a new one each time, and the one before goes
		registry.Put("mailer/production", id, fmt.Append(nil, 1+n%5))
		registry.Delete("mailer/production", fmt.Sprint("b", n-1))
		page.sees("a 0", fmt.Sprintf("%s %s", id, []string{"1", "1–2", "1–3", "1–4", "1–5"}[n%5]))
	}
	for n := range 80 {
		change(n)
	}
	require.Equal(t, 60, value[int](page, `document.querySelectorAll("#changes tbody tr").length`))
	before := elements()
	for n := 80; n < 300; n++ {
		change(n)
	}
	t.Logf("%d elements after 80 changes, %d after 300", before, elements())
	require.Equal(t, 60, value[int](page, `document.querySelectorAll("#changes tbody tr").length`))
	require.LessOrEqual(t, elements(), before+8)
}

var churn = flag.Duration("churn", 2*time.Second, "how long a page is left open while the cluster changes")

// What it costs is logged, and compared by who reads it: a real machine has a say in it.
func TestBrowserIsLeftOpenThroughChurn(t *testing.T) {
	registry := libclustertest.New()
	var mu sync.Mutex // guards what follows
	var renewed time.Time
	var longest time.Duration
	registry.Intercept(func(ctx context.Context, call libclustertest.Call) error {
		if call.Op == libclustertest.OpRenew {
			mu.Lock()
			if now := time.Now(); !renewed.IsZero() {
				longest = max(longest, now.Sub(renewed))
			}
			renewed = time.Now()
			mu.Unlock()
		}
		return call.Send(ctx)
	})
	a := join(t, registry, "a", func(c *libcluster.Config) { c.Logger = zap.NewNop() }) // strangers are all it could tell of
	page := open(t, show(t, a))
	page.sees("a 0")
	changes, next := 0, time.Now()
	for end := next.Add(*churn); ; {
		if !time.Now().Before(next) {
			next = next.Add(max(*churn/12, time.Second))
			mu.Lock()
			gap := longest
			mu.Unlock()
			t.Logf("after %d changes: the page's heap %d KiB, the server's %d KiB, the longest time between renewals %v",
				changes, value[int](page, `performance.memory.usedJSHeapSize`)>>10, memory()>>10, gap.Round(time.Millisecond))
		}
		if time.Now().After(end) {
			break
		}
		registry.Put("mailer/production", fmt.Sprint("b", changes%20), fmt.Append(nil, 1+changes%7))
		changes++
		time.Sleep(250 * time.Millisecond) // the rate, and nothing waits for it
	}
	registry.Put("mailer/production", "z", []byte("1"))
	page.shows(`[...document.querySelectorAll("#members tbody bdi")].some(e => e.textContent === "z")`)
	require.Equal(t, libcluster.PhaseActive, a.Phase())
}

// Whatever others have written is text on the page: nothing of it runs, and nothing of it is markup.
func TestBrowserShowsHostileRecordsAsText(t *testing.T) {
	registry := libclustertest.New()
	a := join(t, registry, "a", func(c *libcluster.Config) { c.OnMembers = func(libcluster.MembersChange) {} })
	ids := []string{
		`"><img src=x onerror=window.hacked=1>`, "<script>window.hacked=1", "${window.hacked=1}", "{{.}}",
		"\u05d0\u05d1\u05d2 rtl", strings.Repeat("Z\u0351\u0352\u0353", 20), strings.Repeat("w", 250), "__proto__", "constructor",
	}
	for _, id := range ids {
		registry.Put("mailer/production", id, []byte(`{"workers":2,"address":"<svg onload=window.hacked=1>\u001b[2J\u202egnp.exe","version":"</td></table><script>window.hacked=1</script>"}`))
	}
	require.Eventually(t, func() bool { return len(a.View().Members) == 1+len(ids) }, watchdog, time.Millisecond)
	page := open(t, show(t, a))
	page.shows(`document.querySelectorAll("#members tr[data-live]").length === 10`)
	shown := value[[]string](page, `[...document.querySelectorAll("#members tbody bdi")].map(e => e.textContent)`)
	for _, id := range ids {
		require.Contains(t, shown, id)
	}
	require.Contains(t, shown, `<svg onload=window.hacked=1>\u{1b}[2J\u{202e}gnp.exe`)
	require.True(t, value[bool](page, `window.hacked === undefined`))
	require.Zero(t, value[int](page, `document.querySelectorAll("#members img, #members script, #members [onload]").length`))
	page.shows(`document.documentElement.scrollWidth <= window.innerWidth`)
	page.photograph("hostile")
}

func TestBrowserShowsAThousandMembers(t *testing.T) {
	registry := libclustertest.New()
	a := join(t, registry, "a")
	for n := range 1000 {
		registry.Put("mailer/production", fmt.Sprintf("node%04d", n), fmt.Append(nil, 1+n%3))
	}
	require.Eventually(t, func() bool { return len(a.View().Members) == 1001 }, watchdog, 10*time.Millisecond)
	page := open(t, show(t, a))
	page.shows(`document.querySelectorAll("#members tr[data-live]").length === 1001`)
	registry.Delete("mailer/production", "node0500")
	page.shows(`document.querySelectorAll("#members tr[data-live]").length === 1000`)
	t.Logf("%d elements", value[int](page, `document.querySelectorAll("*").length`))
	require.Less(t, value[int](page, `document.querySelectorAll("*").length`), 40000)
}

// The browser asks for the token, and then uses it for all that the page asks.
func TestBrowserUsesTheTokenAsAPassword(t *testing.T) {
	a := join(t, libclustertest.New(), "a")
	base := show(t, a, withToken(token))
	page := open(t, strings.Replace(base, "://", "://me:"+strings.ReplaceAll(token, " ", "%20")+"@", 1))
	page.sees("a 0")
	page.shows(`document.getElementById("covered").textContent === "yes"`)
	page.shows(`document.getElementById("live").textContent === "live"`)
}

func TestBrowserReadsThePageWithoutJavaScript(t *testing.T) {
	registry := libclustertest.New()
	a := join(t, registry, "a", workers(2))
	join(t, registry, "b")
	page := open(t, "about:blank")
	call(page, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	page.do(chromedp.Navigate(show(t, a)))
	text := value[string](page, `document.body.innerText`)
	require.Regexp(t, `a primary this one\s+0–1\s+2`, text)
	require.Regexp(t, `b\s+2\s+1`, text)
	page.photograph("plain")
}

// When the process is back the page goes on by itself, with what it has missed.
func TestBrowserComesBackAfterAnOutage(t *testing.T) {
	registry := libclustertest.New()
	a := join(t, registry, "a")
	h := handler(t, a)
	l, err := h.Listen(":0")
	require.NoError(t, err)
	address := l.Addr().String()
	begin := func(l net.Listener) (end func()) {
		ctx, stop := context.WithCancel(context.Background())
		served := make(chan error)
		go func() { served <- h.Serve(ctx, l) }()
		return func() {
			stop()
			require.NoError(t, <-served)
		}
	}
	end := begin(l)
	page := open(t, "http://"+address, "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_EMPTY_RESPONSE")
	same := page.stays()
	page.sees("a 0")
	end()
	page.shows(`document.getElementById("live").textContent.startsWith("not connected since")`)
	page.photograph("outage")
	join(t, registry, "b")
	l, err = h.Listen(address)
	require.NoError(t, err)
	defer begin(l)()
	page.sees("a 0", "b 1")
	page.shows(`document.getElementById("live").textContent === "live"`)
	page.shows(`document.querySelectorAll("#changes tbody tr").length === 2`)
	same()
}

// Of a static cluster only this instance is known, and whether all is held cannot be told.
func TestBrowserShowsAStaticCluster(t *testing.T) {
	page := open(t, show(t, join(t, libcluster.Static(2, 6), "a", workers(2))), "501")
	page.sees("a 2–3")
	page.shows(`document.getElementById("covered").textContent === "cannot be told"`)
	page.photograph("static")
}
