package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
)

// admits reports whether a request has one of the tokens, if there are any. How long that takes
// says nothing of them.
func (h *Handler) admits(r *http.Request) bool {
	if len(h.tokens) == 0 {
		return true
	}
	given := sha256.Sum256([]byte(tokenOf(r)))
	admitted := 0
	for _, token := range h.tokens {
		its := sha256.Sum256([]byte(token.Reveal()))
		admitted |= subtle.ConstantTimeCompare(given[:], its[:])
	}
	return admitted == 1
}

// tokenOf returns the token that a request has, or nothing. A browser asks its user for a
// password.
func tokenOf(r *http.Request) string {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(token)
	}
	_, password, _ := r.BasicAuth()
	return password
}

// isGuarded reports whether only those can look who have been let in. Without ClientCAs package
// tls takes the system's roots, and so a certificate that anybody can get.
func (h *Handler) isGuarded() bool {
	return len(h.tokens) > 0 || h.tls != nil && h.tls.ClientAuth == tls.RequireAndVerifyClientCert && h.tls.ClientCAs != nil
}

// isOwnName reports whether a request was made to this machine by a name that only it has. A
// page from elsewhere whose name has come to mean the loopback address is otherwise read by the
// browser as its own, and so could read this one.
func isOwnName(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.Trim(host, "[]")
	return strings.EqualFold(host, "localhost") || net.ParseIP(host) != nil
}

// onlyByOwnName has a handler refuse requests that were made by any other name.
func (h *Handler) onlyByOwnName() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !isOwnName(r.Host) {
			h.refuse(w, r, http.StatusForbidden, "wrong_host", "ask by an IP address or as localhost, or have the handler need a token")
			return
		}
		h.ServeHTTP(w, r)
	})
}
