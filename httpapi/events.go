package httpapi

import (
	"net/http"
	"strconv"
	"time"
)

const (
	// patience is how long a client may take to accept an event.
	patience = 15 * time.Second

	// alive is how often a client is sent a comment while there is no event, so that
	// both ends, and what is between, find out that the other has gone.
	alive = 15 * time.Second
)

// events sends each view, until the client goes or is too slow, or the handler is closed.
func (h *Handler) events(w http.ResponseWriter, r *http.Request) {
	since := r.Header.Get("Last-Event-ID")
	if since == "" {
		since = r.URL.Query().Get("since")
	}
	last, err := strconv.ParseInt(since, 10, 64)
	if err != nil && since != "" {
		h.refuse(w, r, http.StatusBadRequest, "bad_id", "the ID of the last event must be a number")
		return
	}
	s := stream{w, http.NewResponseController(w), h.patience}
	if err := s.out.SetWriteDeadline(time.Time{}); err != nil {
		h.refuse(w, r, http.StatusInternalServerError, "cannot_stream",
			"a client that does not read could not be dropped: what wraps the http.ResponseWriter needs a method Unwrap")
		return
	}
	_ = s.out.SetReadDeadline(time.Time{}) // of the server's ReadTimeout, which is for requests
	if !h.hub.enter() {
		w.Header().Set("Retry-After", "10")
		h.refuse(w, r, http.StatusServiceUnavailable, "too_many", "too many clients listen to events")
		return
	}
	defer h.hub.exit()
	header := w.Header()
	header.Set("Content-Type", "text/event-stream")
	header.Set("Cache-Control", "no-store")
	header.Set("X-Accel-Buffering", "no") // or nginx would keep events back
	if r.Method == http.MethodHead {
		return
	}
	if !s.send([]byte("retry: 2000\n\n")) {
		return
	}
	beat := time.NewTicker(h.alive)
	defer beat.Stop()
	for {
		event, id, more := h.hub.after(last)
		if event != nil {
			if !s.send(event) {
				return
			}
			last = id
			beat.Reset(h.alive)
			continue
		}
		select {
		case <-more:
		case <-beat.C:
			if !s.send([]byte(": alive\n\n")) {
				return
			}
		case <-r.Context().Done():
			return
		case <-h.ctx.Done():
			return
		}
	}
}

// stream is the way to one client.
type stream struct {
	w        http.ResponseWriter
	out      *http.ResponseController
	patience time.Duration
}

// send reports whether the client has accepted some bytes in time. There is no deadline
// between two of them, at which HTTP/2 would end the stream.
func (s stream) send(text []byte) bool {
	if s.out.SetWriteDeadline(time.Now().Add(s.patience)) != nil {
		return false
	}
	if _, err := s.w.Write(text); err != nil || s.out.Flush() != nil {
		return false
	}
	return s.out.SetWriteDeadline(time.Time{}) == nil
}
