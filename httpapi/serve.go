package httpapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"time"
)

const (
	// Bounds of what a client may do until it has sent a request.
	longestHeader  = 10 * time.Second
	longestRequest = 30 * time.Second // with a body, of which nothing is wanted
	longestIdle    = 2 * time.Minute
	largestHeader  = 32 << 10

	// lastReplies is how long replies may take that are under way when serving ends.
	lastReplies = 5 * time.Second
)

// ListenAndServe is [Handler.Listen] and [Handler.Serve].
func (h *Handler) ListenAndServe(ctx context.Context, address string) error {
	l, err := h.Listen(address)
	if err != nil {
		return err
	}
	return h.Serve(ctx, l)
}

// Listen listens on a TCP address, such as 127.0.0.1:7070. Without a host, as in :7070, that is the
// loopback address: to listen on all, say 0.0.0.0 or [::]. An address that other machines can
// reach is refused unless the handler has [WithToken], or [WithTLS] with ClientCAs and client
// certificates that are verified.
func (h *Handler) Listen(address string) (net.Listener, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("httpapi: address %q: must be HOST:PORT or :PORT: %w", address, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	l, err := net.Listen("tcp", net.JoinHostPort(host, port))
	if err != nil {
		return nil, fmt.Errorf("httpapi: %w", err)
	}
	if !isLoopback(l) && !h.isGuarded() {
		_ = l.Close()
		return nil, fmt.Errorf("httpapi: address %q: other machines can reach it: "+
			"use 127.0.0.1, or WithToken, or WithTLS with ClientAuth RequireAndVerifyClientCert and ClientCAs", address)
	}
	return l, nil
}

func isLoopback(l net.Listener) bool {
	a, ok := l.Addr().(*net.TCPAddr)
	return ok && a.IP.IsLoopback()
}

// Serve serves on a listener until ctx ends, and closes it. Then replies that are under way have
// 5 s, and streams of events end at once. The error is nil if ctx has ended. The handler is not
// closed. Without a token and client certificates it answers on a loopback address only to
// localhost and IP addresses, so that no page of another site can read it; and on any other
// address, which [Handler.Listen] would have refused, it is open to all who can reach it.
func (h *Handler) Serve(ctx context.Context, l net.Listener) error {
	handler := http.Handler(h)
	if isLoopback(l) && !h.isGuarded() {
		handler = h.onlyByOwnName()
	}
	server := &http.Server{
		Handler: handler, TLSConfig: h.tls,
		ReadHeaderTimeout: longestHeader, ReadTimeout: longestRequest, WriteTimeout: longestReply,
		IdleTimeout: longestIdle, MaxHeaderBytes: largestHeader,
		BaseContext: func(net.Listener) context.Context { return ctx }, // which ends the streams
		ErrorLog:    log.New(io.Discard, "", 0),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastReplies)
		defer cancel()
		if server.Shutdown(last) != nil {
			_ = server.Close()
		}
	})
	serve := server.Serve
	if h.tls != nil {
		serve = func(l net.Listener) error { return server.ServeTLS(l, "", "") }
	}
	err := serve(l)
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	_ = server.Close()
	return fmt.Errorf("httpapi: %w", err)
}
