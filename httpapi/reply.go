package httpapi

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/libcluster/libcluster"
)

// failure is the answer to a request that cannot be served.
type failure struct {
	Error fault `json:"error"`
}

type fault struct {
	Code    string `json:"code"` // for programs: it stays
	Message string `json:"message"`
}

func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	h.reply(w, r, status, failure{fault{code, message}})
}

// reply answers with JSON. What was a success may be asked for again with its ETag, the rest not.
func (h *Handler) reply(w http.ResponseWriter, r *http.Request, status int, v any) {
	body := append(marshal(v), '\n')
	header := w.Header()
	header.Set("Content-Type", "application/json")
	if status == http.StatusOK && !isProbe(r) {
		header.Set("Link", `<schema.json>; rel="describedby"`)
		h.send(w, r, whole(body))
		return
	}
	header.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // it has gone, if not
	}
}

// whole writes a body that is held as text.
func whole(body []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(body)
		return err
	}
}

// longestReply is how long a client may take to read a reply that is not of events.
const longestReply = 30 * time.Second

// send sends a body unless the client has it. The body is written twice, the first time for its
// ETag, so that nobody has to hold one that is large.
func (h *Handler) send(w http.ResponseWriter, r *http.Request, body func(io.Writer) error) {
	hash := sha256.New()
	_ = body(hash) // a hash takes everything
	tag := `"` + base64.RawURLEncoding.EncodeToString(hash.Sum(nil)[:15]) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "private, no-cache")
	if has(r.Header.Get("If-None-Match"), tag) {
		w.Header().Del("Content-Type")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if r.Method == http.MethodHead {
		return
	}
	_ = body(w) // the client has gone, if not
}

// bound bounds a reply, unless the server does so. Its deadline is also for what it has yet to send
// when the handler has returned.
func bound(w http.ResponseWriter, r *http.Request) (done func()) {
	out := http.NewResponseController(w)
	server, is := r.Context().Value(http.ServerContextKey).(*http.Server)
	if is && server.WriteTimeout > 0 || out.SetWriteDeadline(time.Now().Add(longestReply)) != nil {
		return func() {}
	}
	return func() { _ = out.SetWriteDeadline(time.Time{}) } // which has worked
}

// has reports whether an If-None-Match names a tag.
func has(header, tag string) bool {
	for one := range strings.SplitSeq(header, ",") {
		if one = strings.TrimSpace(one); one == "*" || strings.TrimPrefix(one, "W/") == tag {
			return true
		}
	}
	return false
}

// membership is the answer to /v1/members but for its last field, the members.
type membership struct {
	Mode       libcluster.Mode `json:"mode"`
	Generation int64           `json:"generation"`
	Total      int             `json:"total"`
	Blockers   []blocker       `json:"blockers"`
}

// members sends all that members publish, one after another: they may have published 64 KiB each.
func (h *Handler) members(w http.ResponseWriter, r *http.Request) {
	v := h.cluster.View()
	head := marshal(membership{h.cluster.Mode(), v.State.Generation, v.State.Total, blockersOf(v.Blockers)})
	head = append(bytes.TrimSuffix(head, []byte("}")), `,"members":[`...)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Link", `<schema.json>; rel="describedby"`)
	h.send(w, r, func(w io.Writer) error {
		next := head
		for _, p := range v.Members {
			if _, err := w.Write(append(next, marshal(memberOf(h.cluster, p))...)); err != nil {
				return err
			}
			next = []byte(",")
		}
		if len(v.Members) > 0 {
			next = nil
		}
		_, err := w.Write(append(next, "]}\n"...))
		return err
	})
}
