package httpapi_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/httpapi"
	"github.com/libcluster/libcluster/libclustertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// watchdog is how long a test waits for what should come soon.
const watchdog = 30 * time.Second

// join returns an instance that has joined, and leaves when the test ends.
func join(t testing.TB, registry libcluster.Registry, id string, configure ...func(*libcluster.Config)) *libcluster.Cluster {
	t.Helper()
	c := instance(t, registry, id, configure...)
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	require.NoError(t, c.Join(ctx))
	return c
}

// instance returns one that has not joined.
func instance(t testing.TB, registry libcluster.Registry, id string, configure ...func(*libcluster.Config)) *libcluster.Cluster {
	t.Helper()
	cfg := libcluster.Config{Key: "mailer", ID: id, Registry: registry}
	for _, f := range configure {
		f(&cfg)
	}
	c, err := libcluster.New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { leave(t, c) })
	return c
}

func leave(t testing.TB, c *libcluster.Cluster) {
	ctx, cancel := context.WithTimeout(context.Background(), watchdog)
	defer cancel()
	_ = c.Leave(ctx) // of one that has been cut off it says so
}

func workers(n int) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.Workers = n }
}

func mode(m libcluster.Mode) func(*libcluster.Config) {
	return func(c *libcluster.Config) { c.Mode = m }
}

func passive(c *libcluster.Config) { c.Passive = true }

// show returns the address of a handler of a cluster.
func show(t testing.TB, c *libcluster.Cluster, options ...httpapi.Option) string {
	t.Helper()
	return serve(t, handler(t, c, options...))
}

// serve returns the address of a server, whose streams have to end before it can.
func serve(t testing.TB, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
		http.DefaultClient.CloseIdleConnections()
	})
	return server.URL
}

// answer is what a request has brought.
type answer struct {
	*http.Response
	body []byte
}

// ask sends a request, and reads the answer.
func ask(t testing.TB, method, url string, header ...string) answer {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), watchdog)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	require.NoError(t, err)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	a, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	require.NoError(t, err)
	return answer{a, body}
}

func get(t testing.TB, url string, header ...string) answer {
	t.Helper()
	return ask(t, http.MethodGet, url, header...)
}

// is returns the answer as JSON, after it was held against a definition of the schema.
func (a answer) is(t testing.TB, definition string) map[string]any {
	t.Helper()
	require.Contains(t, a.Header.Get("Content-Type"), "application/json")
	return valid(t, definition, a.body)
}

// schemas are the definitions of the schema that is served, in which nothing else may be.
var schemas = func() map[string]*jsonschema.Schema {
	h, err := httpapi.New(must(libcluster.New(libcluster.Config{Key: "schema", Registry: libclustertest.New()})))
	if err != nil {
		panic(err)
	}
	defer h.Close()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/v1/schema.json", nil))
	document := must(jsonschema.UnmarshalJSON(w.Body)).(map[string]any)
	compiled := make(map[string]*jsonschema.Schema)
	for name, definition := range document["$defs"].(map[string]any) {
		closed(definition)
		compiled[name] = nil
	}
	compiler := jsonschema.NewCompiler()
	compiler.AssertFormat()
	if err := compiler.AddResource("schema.json", document); err != nil {
		panic(err)
	}
	for name := range compiled {
		compiled[name] = compiler.MustCompile("schema.json#/$defs/" + name)
	}
	return compiled
}()

// closed has a definition accept no field that it does not name: the handler must not answer with one.
func closed(definition any) {
	switch d := definition.(type) {
	case map[string]any:
		if _, object := d["properties"]; object {
			d["additionalProperties"] = false
		}
		for _, inner := range d {
			closed(inner)
		}
	case []any:
		for _, inner := range d {
			closed(inner)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// valid returns JSON that agrees with a definition of the schema.
func valid(t testing.TB, definition string, text []byte) map[string]any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	require.NoError(t, err, "%s", text)
	require.Contains(t, schemas, definition)
	require.NoError(t, schemas[definition].Validate(v), "%.1000s", text)
	var object map[string]any
	require.NoError(t, json.Unmarshal(text, &object))
	return object
}
