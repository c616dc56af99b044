package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/libcluster/libcluster"
)

// Handler serves what the package documentation lists. Make one with [New]. Its methods
// may be called by any goroutine at any time.
//
// In a server of your own mount it below a path with a slash at its end:
//
//	mux.Handle("/cluster/", http.StripPrefix("/cluster", h))
type Handler struct {
	cluster *libcluster.Cluster
	routes  *http.ServeMux
	hub     *hub
	looks   *looks
	tokens  []libcluster.Secret
	tls     *tls.Config

	ctx   context.Context // ended by Close
	end   context.CancelFunc
	ended chan struct{} // closed when the hub has ended

	patience, alive time.Duration // of a client of events; other ones in tests
}

// Option changes what [New] makes.
type Option func(*Handler) error

// leastToken is the length of the shortest token: what can be guessed is none.
const leastToken = 16

// WithToken has every request but /healthz and /readyz need a token, of 16 bytes at least. It is
// compared in constant time, and never logged. If there are several, any of them will do, so that
// they can be replaced one after another.
func WithToken(token libcluster.Secret) Option {
	return func(h *Handler) error {
		if n := len(token.Reveal()); n < leastToken {
			return fmt.Errorf("httpapi: WithToken: the token has %d bytes: must be %d at least", n, leastToken)
		}
		h.tokens = append(h.tokens, token)
		return nil
	}
}

// WithTLS has [Handler.Serve] and [Handler.ListenAndServe] speak TLS. The configuration needs a
// certificate. With ClientAuth [tls.RequireAndVerifyClientCert] only those can connect whose
// certificate is of ClientCAs, probes included. Without ClientCAs that is any certificate which the
// system trusts, and does not guard the handler.
func WithTLS(config *tls.Config) Option {
	return func(h *Handler) error {
		if config == nil || len(config.Certificates) == 0 && config.GetCertificate == nil && config.GetConfigForClient == nil {
			return errors.New("httpapi: WithTLS: the configuration has no certificate; set Certificates or GetCertificate")
		}
		h.tls = config.Clone()
		return nil
	}
}

// New returns a handler that shows a cluster, which need not have joined yet. One goroutine
// follows the cluster until [Handler.Close]; it keeps the latest changes, 5 MiB at most as
// long as the newest view takes less.
func New(cluster *libcluster.Cluster, options ...Option) (*Handler, error) {
	h := &Handler{cluster: cluster, patience: patience, alive: alive, ended: make(chan struct{})}
	for _, option := range options {
		if err := option(h); err != nil {
			return nil, err
		}
	}
	h.ctx, h.end = context.WithCancel(context.Background())
	h.looks = &looks{cluster: cluster, ctx: h.ctx}
	h.hub = newHub(h.ctx, cluster, h.looks)
	h.routes = h.newRoutes()
	go func() {
		defer close(h.ended)
		h.hub.follow(h.ctx)
	}()
	return h, nil
}

// Close ends the streams of events, and what follows the cluster. It leaves the cluster alone.
// The rest is served as before, but the coverage and later events are not. It may be called again.
func (h *Handler) Close() {
	h.end()
	<-h.ended
	h.looks.end()
}

func (h *Handler) newRoutes() *http.ServeMux {
	routes := http.NewServeMux()
	routes.HandleFunc("/healthz", h.health)
	routes.HandleFunc("/readyz", h.ready)
	routes.HandleFunc("/v1/state", h.state)
	routes.HandleFunc("/v1/members", h.members)
	routes.HandleFunc("/v1/coverage", h.coverage)
	routes.HandleFunc("/v1/owner", h.owner)
	routes.HandleFunc("/v1/events", h.events)
	routes.HandleFunc("/v1/schema.json", h.file("application/schema+json", "schema.json"))
	routes.HandleFunc("/assets/style.css", h.file("text/css; charset=utf-8", "style.css"))
	routes.HandleFunc("/assets/page.js", h.file("text/javascript; charset=utf-8", "page.js"))
	routes.HandleFunc("/assets/icon.svg", h.file("image/svg+xml", "icon.svg"))
	routes.HandleFunc("/{$}", h.page)
	routes.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		h.refuse(w, r, http.StatusNotFound, "not_found", "there is nothing here; see the package documentation of httpapi for what there is")
	})
	return routes
}

// ServeHTTP serves a request.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer bound(w, r)()
	header := w.Header()
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	switch {
	case !isProbe(r) && !h.admits(r):
		header.Add("WWW-Authenticate", `Basic realm="libcluster", charset="UTF-8"`)
		header.Add("WWW-Authenticate", `Bearer realm="libcluster"`)
		h.refuse(w, r, http.StatusUnauthorized, "unauthorized", "a token is needed")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		header.Set("Allow", "GET, HEAD")
		h.refuse(w, r, http.StatusMethodNotAllowed, "method_not_allowed", "only GET and HEAD are served")
	default:
		h.routes.ServeHTTP(w, r)
	}
}

// isProbe reports whether a request tells no more than a status.
func isProbe(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }

// probe is the answer to a probe.
type probe struct {
	Status string           `json:"status"`
	Phase  libcluster.Phase `json:"phase,omitempty"`
	Why    string           `json:"why,omitempty"`
}

func (h *Handler) health(w http.ResponseWriter, r *http.Request) {
	h.reply(w, r, http.StatusOK, probe{Status: "ok"})
}

// ready says no more than whether to a client that is not admitted.
func (h *Handler) ready(w http.ResponseWriter, r *http.Request) {
	answer, status := probe{Status: "ready"}, http.StatusOK
	ready, why := isReady(h.cluster)
	if !ready {
		answer.Status, status = "not ready", http.StatusServiceUnavailable
	}
	if h.admits(r) {
		answer.Phase = h.cluster.Phase()
		if !ready {
			answer.Why = reason(why)
		}
	}
	h.reply(w, r, status, answer)
}

func (h *Handler) state(w http.ResponseWriter, r *http.Request) {
	h.reply(w, r, http.StatusOK, stateOf(h.cluster, h.cluster.State()))
}

func (h *Handler) coverage(w http.ResponseWriter, r *http.Request) {
	found, err := h.looks.get(r.Context())
	switch {
	case err == nil:
		h.reply(w, r, http.StatusOK, coverageOf(h.cluster, found))
	case cannotLook(err):
		h.refuse(w, r, http.StatusNotImplemented, "cannot_look", reason(err))
	default:
		h.refuse(w, r, http.StatusServiceUnavailable, "unavailable", reason(err))
	}
}

// ownership says who owns a key.
type ownership struct {
	Key   string `json:"key"`
	Owner member `json:"owner"`
}

func (h *Handler) owner(w http.ResponseWriter, r *http.Request) {
	keys := r.URL.Query()["key"]
	if len(keys) != 1 {
		h.refuse(w, r, http.StatusBadRequest, "bad_key", "give one key: /v1/owner?key=KEY")
		return
	}
	p, known := h.cluster.OwnerOf(keys[0])
	if !known {
		h.refuse(w, r, http.StatusNotFound, "no_owner", "no owner of this key is known")
		return
	}
	h.reply(w, r, http.StatusOK, ownership{keys[0], memberOf(h.cluster, p)})
}
