package httpapi

import "time"

// SetPatience sets how long a client of events may take to accept one, and how often a quiet
// stream is sent a comment. It must come before the first request.
func (h *Handler) SetPatience(patience, alive time.Duration) { h.patience, h.alive = patience, alive }

// Kept is how many events are kept, and how many bytes they have.
func (h *Handler) Kept() (events, size int) {
	h.hub.mu.Lock()
	defer h.hub.mu.Unlock()
	return len(h.hub.events), h.hub.bytes
}
