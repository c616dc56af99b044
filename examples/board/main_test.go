package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
	"github.com/libcluster/libcluster/internal/testhost"
)

func ask(t *testing.T, method, url, body string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	read, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(read)
}

// Each of three instances knows only the next.
func TestEachShowsWhatAllSay(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	running, ctx := errgroup.WithContext(ctx)
	where := []string{testhost.FreeAddress(t), testhost.FreeAddress(t), testhost.FreeAddress(t)}
	var sites []string
	for n, id := range []string{"a", "b", "c"} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		sites = append(sites, "http://"+listener.Addr().String()+"/")
		running.Go(func() error {
			return run(ctx, id, gossip.Config{Bind: where[n], Seeds: []string{where[(n+1)%3]}}, listener)
		})
	}
	shows := func(site, want string) {
		t.Helper()
		require.Eventually(t, func() bool {
			_, text := ask(t, "GET", site, "")
			return strings.TrimSpace(text) == want
		}, time.Minute, time.Millisecond, "%s", want)
	}
	does := func(method, url, body string) {
		t.Helper()
		status, text := ask(t, method, url, body)
		require.Equal(t, http.StatusNoContent, status, text)
	}
	for _, site := range sites {
		shows(site, `{"a":{},"b":{},"c":{}}`)
	}
	does("PUT", sites[0]+"load", "7")
	does("PUT", sites[1]+"zone", "west")
	shows(sites[2], `{"a":{"load":"7"},"b":{"zone":"west"},"c":{}}`)
	does("DELETE", sites[0]+"load", "")
	does("PUT", sites[1]+"zone", "east")
	shows(sites[2], `{"a":{},"b":{"zone":"east"},"c":{}}`)
	does("PUT", sites[0]+"load", "8")
	shows(sites[1], `{"a":{"load":"8"},"b":{"zone":"east"},"c":{}}`)

	status, text := ask(t, "PUT", sites[0]+"load", strings.Repeat("x", largestValue))
	require.Equal(t, http.StatusBadRequest, status)
	require.Contains(t, text, "Metadata")
	status, _ = ask(t, "PUT", sites[0]+"load", strings.Repeat("x", largestValue+1))
	require.Equal(t, http.StatusRequestEntityTooLarge, status)
	shows(sites[2], `{"a":{"load":"8"},"b":{"zone":"east"},"c":{}}`)

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	again, end := context.WithCancel(ctx)
	defer end()
	running.Go(func() error {
		return run(again, "d", gossip.Config{Bind: "127.0.0.1:0", Seeds: where}, listener)
	})
	for _, site := range []string{sites[0], "http://" + listener.Addr().String() + "/"} { // which answers when it has joined
		shows(site, `{"a":{"load":"8"},"b":{"zone":"east"},"c":{},"d":{}}`)
	}
	end()
	shows(sites[0], `{"a":{"load":"8"},"b":{"zone":"east"},"c":{}}`)

	listener, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken := make(chan error, 1)
	go func() { taken <- run(ctx, "c", gossip.Config{Bind: "127.0.0.1:0", Seeds: where}, listener) }()
	require.ErrorIs(t, running.Wait(), libcluster.ErrInstanceTaken, "another one has the ID of the third")
	http.DefaultClient.CloseIdleConnections()
	stop()
	<-taken
}
