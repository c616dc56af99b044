package httpapi

import "time"

// SetPatience sets how long a client of events may take to accept one, and how often a quiet
// stream is sent a comment. It must come before the first request.
func (h *Handler) SetPatience(patience, alive time.Duration) { h.patience, h.alive = patience, alive }
