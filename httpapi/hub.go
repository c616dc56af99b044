package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
)

const (
	// mostKept and mostBytes bound the events that are kept for clients that come back: the
	// last minutes of a lively cluster. The newest event is kept however large it is.
	mostKept  = 256
	mostBytes = 4 << 20

	// mostChanges bounds the time line.
	mostChanges = 60

	// mostListeners bounds the clients of events, each of which costs a connection.
	mostListeners = 256

	// The hub rests after each look for several times as long as the look has taken, so that
	// a large cluster that never comes to rest does not cost more than a tenth of a processor.
	restTimes   = 9
	longestRest = time.Second

	// longestRead is how long an event waits for the registry.
	longestRead = time.Second
)

// hub sees the changes of a cluster, and keeps the newest as events. Its one goroutine only
// reads the cluster, and the registry when a generation shows in nothing else. It waits for no client: a
// client fetches the next event when it has written the one before.
type hub struct {
	cluster  *libcluster.Cluster
	looks    *looks
	colors   colors   // the goroutine's
	before   *picture // the goroutine's
	body     []byte   // the goroutine's: before, as JSON
	reserved []string // the goroutine's: the members that it knows to have left for a restart

	mu        sync.Mutex // guards what follows
	last      int64      // the ID of the newest event
	events    [][]byte   // the newest is the last; their IDs have no gap
	bytes     int        // in events
	changes   []change
	listeners int
	more      chan struct{} // closed with the next event
}

// newHub has looked once. IDs begin with the microsecond: one of an earlier process is then older
// than all, and cannot be mistaken for one of this one.
func newHub(ctx context.Context, c *libcluster.Cluster, l *looks) *hub {
	h := &hub{cluster: c, looks: l, last: time.Now().UnixMicro(), more: make(chan struct{})}
	h.look(ctx)
	return h
}

// follow is the goroutine. It ends with ctx.
func (h *hub) follow(ctx context.Context) {
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		changed := h.cluster.Changed()
		began := time.Now()
		h.look(ctx)
		rest.Reset(min(restTimes*time.Since(began), longestRest))
		select {
		case <-rest.C:
		case <-ctx.Done():
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// look makes an event of the picture if that is another one than before.
func (h *hub) look(ctx context.Context) {
	p := pictureOf(h.cluster)
	h.colors.paint(p.Members)
	body := marshal(p)
	if bytes.Equal(body, h.body) {
		return
	}
	now := changeTo(h.before, p)
	h.reserved = slices.DeleteFunc(h.reserved, func(id string) bool {
		return !slices.ContainsFunc(p.Members, func(m member) bool { return m.ID == id })
	})
	switch {
	case now.Text != "":
	case h.before.State.Generation != now.Generation:
		now.Text = h.reservations(ctx)
	default:
		now.Text = nothingMoved
	}
	h.before, h.body = &p, body
	h.add(now, body)
}

// reservations tells of a generation by which nobody has moved. Of a reserved assignment only the
// registry's records tell.
func (h *hub) reservations(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(ctx, longestRead)
	defer cancel()
	before, now := h.reserved, h.reserved
	if found, err := h.looks.get(ctx); err == nil {
		now = nil
		for _, p := range found.Problems {
			if p.Kind == libcluster.ProblemReserved && !slices.Contains(now, p.ID) {
				now = append(now, p.ID)
			}
		}
	}
	h.reserved = now
	return whatIsReserved(before, now)
}

// add keeps an event, and wakes who waits for one. The body is an object with fields.
func (h *hub) add(now change, body []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last++
	now.ID, now.Time = h.last, time.Now()
	data := append(bytes.TrimSuffix(marshal(struct {
		ID     int64     `json:"id"`
		Time   time.Time `json:"time"`
		Change change    `json:"change"`
	}{now.ID, now.Time, now}), []byte("}")), ',')
	event := frame("view", now.ID, append(data, body[1:]...))
	h.events, h.bytes = append(h.events, event), h.bytes+len(event)
	for len(h.events) > 1 && (len(h.events) > mostKept || h.bytes > mostBytes) {
		h.bytes -= len(h.events[0])
		h.events[0] = nil
		h.events = h.events[1:]
	}
	h.changes = append(h.changes, now)
	h.changes = h.changes[max(0, len(h.changes)-mostChanges):]
	close(h.more)
	h.more = make(chan struct{})
}

// after returns the event that follows the one of an ID, or if it is not kept, or was never
// here, the newest event, and before it the history. If there is none yet, it returns a
// channel that is closed when there is.
func (h *hub) after(id int64) (event []byte, its int64, more <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	oldest := h.last - int64(len(h.events)) + 1
	switch {
	case id == h.last:
		return nil, id, h.more
	case id >= oldest-1 && id < h.last:
		return h.events[id+1-oldest], id + 1, nil
	}
	history := frame("history", 0, marshal(history{h.changes}))
	return append(history, h.events[len(h.events)-1]...), h.last, nil
}

// history is the data of the event of that name.
type history struct {
	Changes []change `json:"changes"`
}

// newest returns the changes, the newest first.
func (h *hub) newest() []change {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := make([]change, 0, len(h.changes))
	for i := range h.changes {
		all = append(all, h.changes[len(h.changes)-1-i])
	}
	return all
}

// enter counts a listener, unless there are too many.
func (h *hub) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listeners == mostListeners {
		return false
	}
	h.listeners++
	return true
}

func (h *hub) exit() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listeners--
}

// frame is an event as it is sent. JSON has no line breaks.
func frame(name string, id int64, data []byte) []byte {
	var f []byte
	if id != 0 {
		f = append(strconv.AppendInt(append(f, "id: "...), id, 10), '\n')
	}
	f = append(append(append(f, "event: "...), name...), "\ndata: "...)
	return append(append(f, data...), "\n\n"...)
}

// marshal returns v as JSON in which everything is printable.
func marshal(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil { // strings, numbers, times and a known mode always marshal
		panic(err)
	}
	if bytes.IndexFunc(text, isUnusual) < 0 {
		return text // as nearly always
	}
	return []byte(quote.JSON(text))
}

func isUnusual(r rune) bool { return r < ' ' || r > '~' }
