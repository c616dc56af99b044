package httpapi

import (
	"context"
	"embed"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"time"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/quote"
)

//go:embed assets
var assets embed.FS

// policy of the page: nothing but its own files, no text that is taken for markup or code, no
// frame around it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// pageTemplate escapes all that it is given, after what is not printable has been made visible.
var pageTemplate = template.Must(template.New("page.html").Funcs(template.FuncMap{
	"visible": quote.Text,
	"clock":   func(t time.Time) string { return t.Format(time.TimeOnly) },
	"stamp":   func(t time.Time) string { return t.Format(time.RFC3339) },
}).ParseFS(assets, "assets/page.html"))

// page is what the page is made of. A browser with JavaScript then goes on by itself.
type page struct {
	picture
	Width   int // how many indexes there are
	Now     time.Time
	Covered string // as page.js says it
	Wrong   []string
	Changes []change
	Marks   map[string][]string // of members by ID, such as reserved
}

// pagePatience is how long the page waits for the registry. It also says what it knows
// without.
const pagePatience = 500 * time.Millisecond

func (h *Handler) page(w http.ResponseWriter, r *http.Request) {
	p := page{picture: pictureOf(h.cluster), Now: time.Now(), Changes: h.hub.newest(), Marks: make(map[string][]string)}
	p.Width = p.width()
	ctx, cancel := context.WithTimeout(r.Context(), pagePatience)
	defer cancel()
	found, err := h.looks.get(ctx)
	switch {
	case err == nil && found.Covered:
		p.Covered = "yes"
	case err == nil:
		p.Covered = "no"
	case cannotLook(err):
		p.Covered = "cannot be told"
	default:
		p.Covered = "not known"
	}
	for _, b := range p.Blockers {
		p.Marks[b.ID] = append(p.Marks[b.ID], "waited for")
		p.Wrong = append(p.Wrong, "the cluster waits for "+b.ID)
	}
	for i, b := range found.Problems {
		if mark := marks[b.Kind]; mark != "" {
			p.Marks[b.ID] = append(p.Marks[b.ID], mark)
		}
		if i < mostWrong {
			p.Wrong = append(p.Wrong, b.String())
		}
	}
	if more := len(found.Problems) - mostWrong; more > 0 {
		p.Wrong = append(p.Wrong, fmt.Sprintf("and %d more", more))
	}
	header := w.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Content-Security-Policy", policy)
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if r.Method == http.MethodHead {
		return
	}
	_ = pageTemplate.Execute(w, p) // the client has gone, if not
}

// mostWrong is how many problems the page tells of.
const mostWrong = 20

// marks are the words for what is wrong with a member; page.js has them too.
var marks = map[libcluster.ProblemKind]string{
	libcluster.ProblemReserved: "reserved",
	libcluster.ProblemVanished: "vanished",
	libcluster.ProblemOrphan:   "orphan",
	libcluster.ProblemOverlap:  "overlap",
	libcluster.ProblemStopped:  "stopping",
}

// Holds is what a member holds, for people.
func (m member) Holds() string {
	switch {
	case m.Partitions != "":
		return m.Partitions
	case m.Workers == 1:
		return strconv.Itoa(m.Index)
	}
	return strconv.Itoa(m.Index) + "–" + strconv.Itoa(m.Index+m.Workers-1)
}

// file serves an embedded file.
func (h *Handler) file(contentType, name string) http.HandlerFunc {
	body, err := assets.ReadFile("assets/" + name)
	if err != nil { // a test asks for all
		panic(err)
	}
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		h.send(w, r, whole(body))
	}
}
