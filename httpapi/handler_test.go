package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestEveryAnswerAgreesWithTheSchema(t *testing.T) {
	t.Parallel()
	for _, m := range []libcluster.Mode{libcluster.ModeDirect, libcluster.ModePlanned, libcluster.ModeExclusive, libcluster.ModeCooperative} {
		t.Run(m.String(), func(t *testing.T) {
			t.Parallel()
			registry := libclustertest.New()
			a := join(t, registry, "a", mode(m), workers(2), func(c *libcluster.Config) {
				c.Address, c.Version, c.Metadata = "10.0.0.1:80", "1.10", map[string]string{"zone": "east"}
				c.OnMembers = func(libcluster.MembersChange) {}
			})
			b := join(t, registry, "b", mode(m))
			front := join(t, registry, "front", mode(m), passive)
			for _, c := range []*libcluster.Cluster{a, b, front} {
				require.Eventually(t, func() bool { return len(c.View().Members) == 2 && c.Err() == nil }, watchdog, time.Millisecond)
			}
			base := show(t, a)

			state := get(t, base+"/v1/state").is(t, "state")
			require.Equal(t, map[string]any{"cluster": "mailer/production", "instance": "a", "mode": m.String(), "phase": "active", "primary": true},
				only(state, "cluster", "instance", "mode", "phase", "primary"))
			members := get(t, base+"/v1/members").is(t, "members")["members"].([]any)
			require.Len(t, members, 2)
			first := members[0].(map[string]any)
			require.Equal(t, map[string]any{"id": "a", "address": "10.0.0.1:80", "version": "1.10", "metadata": map[string]any{"zone": "east"}, "self": true, "primary": true},
				only(first, "id", "address", "version", "metadata", "self", "primary"))
			require.Equal(t, m == libcluster.ModeCooperative, first["partitions"] != nil)
			covered := get(t, base+"/v1/coverage").is(t, "coverage")
			require.Equal(t, true, covered["covered"])
			for _, key := range []string{"alice", "", "a b&c=d/é"} {
				owner := get(t, base+"/v1/owner?key="+url.QueryEscape(key)).is(t, "owner")
				want, _ := a.OwnerOf(key)
				require.Equal(t, key, owner["key"])
				require.Equal(t, want.ID, owner["owner"].(map[string]any)["id"])
			}
			require.Equal(t, "ready", get(t, base+"/readyz").is(t, "probe")["status"])
			require.Equal(t, "ok", get(t, base+"/healthz").is(t, "probe")["status"])

			events := listen(t, base+"/v1/events")
			valid(t, "history", events.next(t).data)
			view := valid(t, "view", events.next(t).data)
			require.Len(t, view["members"], 2)

			base = show(t, front)
			state = get(t, base+"/v1/state").is(t, "state")
			require.Equal(t, map[string]any{"index": -1.0, "phase": "active"}, only(state, "index", "phase"))
			require.Len(t, get(t, base+"/v1/members").is(t, "members")["members"], 2)
			require.Equal(t, http.StatusOK, get(t, base+"/readyz").StatusCode, "passive, and has joined")
		})
	}
}

// only returns some of the fields.
func only(object map[string]any, fields ...string) map[string]any {
	some := make(map[string]any)
	for _, f := range fields {
		if v, there := object[f]; there {
			some[f] = v
		}
	}
	return some
}

func TestErrorsAreJSON(t *testing.T) {
	t.Parallel()
	base := show(t, instance(t, libclustertest.New(), "a")) // which has not joined
	for _, test := range []struct {
		method, path string
		status       int
		code         string
	}{
		{"GET", "/v2/state", 404, "not_found"},
		{"GET", "/v1/", 404, "not_found"},
		{"GET", "/assets/", 404, "not_found"},
		{"GET", "/assets/page.html", 404, "not_found"},
		{"POST", "/v1/state", 405, "method_not_allowed"},
		{"DELETE", "/", 405, "method_not_allowed"},
		{"OPTIONS", "/v1/events", 405, "method_not_allowed"},
		{"PUT", "/healthz", 405, "method_not_allowed"},
		{"GET", "/v1/owner", 400, "bad_key"},
		{"GET", "/v1/owner?key=a&key=b", 400, "bad_key"},
		{"GET", "/v1/owner?key=a", 404, "no_owner"},
		{"GET", "/v1/events?since=yesterday", 400, "bad_id"},
		{"GET", "/v1/coverage", 503, "unavailable"},
	} {
		a := ask(t, test.method, base+test.path)
		require.Equal(t, test.status, a.StatusCode, "%s %s", test.method, test.path)
		require.Equal(t, test.code, a.is(t, "error")["error"].(map[string]any)["code"])
		require.Equal(t, "no-store", a.Header.Get("Cache-Control"))
		if test.status == 405 {
			require.Equal(t, "GET, HEAD", a.Header.Get("Allow"))
		}
	}
	a := get(t, base+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, a.StatusCode)
	require.Equal(t, map[string]any{"status": "not ready", "phase": "left", "why": libcluster.ErrLeft.Error()[len("libcluster: "):]}, a.is(t, "probe"))
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	t.Parallel()
	base := show(t, join(t, libclustertest.New(), "a"))
	for _, path := range []string{
		"/", "/healthz", "/readyz", "/v1/members", "/v1/owner?key=a", "/v1/schema.json", "/v1/events",
		"/assets/page.js", "/assets/style.css", "/assets/icon.svg",
	} {
		head := ask(t, http.MethodHead, base+path)
		require.Equal(t, http.StatusOK, head.StatusCode, path)
		require.Empty(t, head.body)
		if path == "/v1/events" {
			continue // which has no end
		}
		a := get(t, base+path)
		require.NotEmpty(t, a.body)
		for _, name := range []string{"Content-Type", "ETag", "Cache-Control", "Content-Security-Policy"} {
			require.Equal(t, a.Header.Get(name), head.Header.Get(name), "%s %s", path, name)
		}
	}
}

// Who asks again for what has not changed gets no body.
func TestUnchangedIsNotSentAgain(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	a := join(t, registry, "a")
	base := show(t, a)
	for _, path := range []string{"/v1/members", "/v1/owner?key=a", "/v1/schema.json", "/assets/page.js"} {
		tag := get(t, base+path).Header.Get("ETag")
		require.NotEmpty(t, tag)
		for _, sent := range []string{tag, "W/" + tag, `"other", ` + tag, "*"} {
			again := get(t, base+path, "If-None-Match", sent)
			require.Equal(t, http.StatusNotModified, again.StatusCode, "%s %s", path, sent)
			require.Empty(t, again.body)
		}
	}
	tag := get(t, base+"/v1/members").Header.Get("ETag")
	require.NoError(t, a.SetMetadata(t.Context(), map[string]string{"load": "7"}))
	require.Eventually(t, func() bool {
		return get(t, base+"/v1/members", "If-None-Match", tag).StatusCode == http.StatusOK
	}, watchdog, time.Millisecond, "metadata counts")
}

// Registries that cannot tell the coverage: one that knows only this instance, and one in which
// all is eventual.
func TestRegistriesWithoutCoverageAreShown(t *testing.T) {
	t.Parallel()
	for name, registry := range map[string]libcluster.Registry{
		"static": libcluster.Static(2, 6), "gossip": gossip.Config{Bind: "127.0.0.1:0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			base := show(t, join(t, registry, "a", workers(2)))
			a := get(t, base+"/v1/coverage")
			require.Equal(t, http.StatusNotImplemented, a.StatusCode)
			require.Equal(t, "cannot_look", a.is(t, "error")["error"].(map[string]any)["code"])
			require.Equal(t, 2.0, get(t, base+"/v1/state").is(t, "state")["workers"])
			require.Len(t, get(t, base+"/v1/members").is(t, "members")["members"], 1)
			events := listen(t, base+"/v1/events")
			events.next(t) // the history
			strip := valid(t, "view", events.next(t).data)["change"].(map[string]any)["strip"].(string)
			if name == "static" {
				require.Regexp(t, `^\.\.(\d)\d\.\.$`, strip)
			}
			require.Contains(t, string(get(t, base+"/").body), "cannot be told")
		})
	}
}

// What others have written comes out as it was written, and never as markup or an escape.
func TestHostileRecordsAreText(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	a := join(t, registry, "a", func(c *libcluster.Config) { c.OnMembers = func(libcluster.MembersChange) {} })
	base := show(t, a)
	const id = `"><img src=x onerror=alert(1)><script>alert(2)` + "<!--{{.}}`${1}&amp;\u05d0\u0301"
	record := map[string]any{
		"workers": 1, "address": "\x1b[2J\u202e\u2028</script><script>alert(3)</script>" + strings.Repeat("é", 3000),
		"version": "'\"><svg onload=alert(4)>\x00\u009b31m", "metadata": map[string]string{"big": strings.Repeat("x", 30<<10), "<b>": strings.Repeat("<", 3000) + "\x1b\u202e"},
	}
	text, err := json.Marshal(record)
	require.NoError(t, err)
	registry.Put("mailer/production", id, text)
	require.Eventually(t, func() bool { return len(a.View().Members) == 2 }, watchdog, time.Millisecond)

	got := get(t, base+"/v1/members")
	for _, r := range string(got.body) {
		require.True(t, r == '\n' || r >= ' ' && r != '\u202e' && r != '\u2028' && r != '\u009b' && r != '<' && r != '>', "%q", r)
	}
	var whole struct{ Members []libcluster.Member }
	require.NoError(t, json.Unmarshal(got.body, &whole))
	stranger := whole.Members[0]
	if stranger.ID == "a" {
		stranger = whole.Members[1]
	}
	require.Equal(t, id, stranger.ID)
	require.Equal(t, record["address"], stranger.Address)
	require.Equal(t, record["version"], stranger.Version)
	require.Equal(t, record["metadata"], stranger.Metadata)
	got.is(t, "members")

	events := listen(t, base+"/v1/events")
	events.next(t)
	view := events.next(t)
	valid(t, "view", view.data)
	require.Less(t, len(view.data), 8<<10, "an event has no metadata, and cuts the rest")

	page := get(t, base+"/")
	require.NotContains(t, string(page.body), "<img")
	require.NotContains(t, string(page.body), "<svg")
	require.Equal(t, 1, strings.Count(string(page.body), "<script"), "the page's own")
	require.NotContains(t, string(page.body), "\x1b")
	require.Contains(t, string(page.body), `&#34;&gt;&lt;img src=x onerror=alert(1)&gt;`)
}

func TestPageAllowsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	base := show(t, join(t, libclustertest.New(), "node1", workers(3)))
	page := get(t, base+"/")
	policy := page.Header.Get("Content-Security-Policy")
	for _, must := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "require-trusted-types-for 'script'"} {
		require.Contains(t, policy, must)
	}
	require.NotContains(t, policy, "unsafe")
	require.Equal(t, "nosniff", page.Header.Get("X-Content-Type-Options"))
	for _, path := range []string{"/", "/assets/page.js", "/assets/style.css"} {
		text := string(get(t, base+path).body)
		for _, from := range []string{"https://", "//fonts", "@import", "innerHTML", "eval(", " style=", "javascript:"} {
			require.NotContains(t, text, from, path)
		}
	}
	require.NotContains(t, string(page.body), "http://")
	// And what who has no JavaScript reads.
	require.Regexp(t, `<th scope="row"><bdi>node1</bdi>.*primary.*<td class="number">0–2</td><td class="number">3</td>`, string(page.body))
	require.Contains(t, string(page.body), `<noscript><meta http-equiv="refresh"`)
}

func TestHandlerWorksBelowAPath(t *testing.T) {
	t.Parallel()
	h := handler(t, join(t, libclustertest.New(), "a"))
	mux := http.NewServeMux()
	mux.Handle("/cluster/", http.StripPrefix("/cluster", h))
	base := serve(t, mux)
	page := string(get(t, base+"/cluster/").body)
	for _, path := range []string{"assets/style.css", "assets/page.js", "assets/icon.svg", "v1/state", "v1/members", "v1/coverage", "v1/schema.json"} {
		require.Contains(t, page, `"`+path+`"`)
		require.Equal(t, http.StatusOK, get(t, base+"/cluster/"+path).StatusCode)
	}
}

// A crowd that has published all that may be costs events that are bounded.
func TestThousandMembersAreShown(t *testing.T) {
	t.Parallel()
	registry := libclustertest.New()
	a := join(t, registry, "a")
	base := show(t, a)
	record := []byte(fmt.Sprintf(`{"workers":3,"address":%q,"version":%q,"metadata":{"m":%q}}`,
		strings.Repeat("a", 200), strings.Repeat("v", 200), strings.Repeat("m", 16<<10)))
	for n := range 1000 {
		registry.Put("mailer/production", fmt.Sprintf("node%04d", n), record)
	}
	require.Eventually(t, func() bool { return len(a.View().Members) == 1001 }, watchdog, 10*time.Millisecond)
	require.Len(t, get(t, base+"/v1/members").is(t, "members")["members"], 1001)
	require.Eventually(t, func() bool {
		events := listen(t, base+"/v1/events")
		defer events.close()
		valid(t, "history", events.next(t).data)
		e := events.next(t)
		require.Less(t, len(e.data), 1<<20)
		return len(valid(t, "view", e.data)["members"].([]any)) == 1001
	}, watchdog, 10*time.Millisecond)
	require.Less(t, len(get(t, base+"/").body), 2<<20)
}

// An importer of the package gets the standard library, and what the library needs anyway.
func TestPackageImportsOnlyTheStandardLibrary(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", `{{join .Imports "\n"}}`, ".").Output()
	require.NoError(t, err)
	for path := range strings.Lines(string(out)) {
		path = strings.TrimSpace(path)
		own := path == "github.com/libcluster/libcluster" || path == "github.com/libcluster/libcluster/internal/quote"
		require.True(t, own || !strings.Contains(path, "."), path)
	}
}
