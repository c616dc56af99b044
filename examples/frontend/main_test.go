package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestMain(m *testing.M) { testetcd.Main(m) }

// role is a front end or a back end that runs.
type role struct {
	address string
	end     func()
}

func start(t *testing.T, run func(context.Context, net.Listener, libcluster.Registry) error) role {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, l, libcluster.Etcd(testetcd.URL(t))); close(ended) }()
	end := func() {
		cancel()
		require.NoError(t, <-ended)
	}
	t.Cleanup(end)
	return role{l.Addr().String(), end}
}

// get asks the front end about an account, and returns the status and the answer.
func (r role) get(t *testing.T, account string) (status int, body string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: testetcd.Patience}
	answer, err := client.Get("http://" + r.address + "/accounts/" + account)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

// awaitOwners waits until each account is owned by one of the back ends, and each of these owns some.
func (r role) awaitOwners(t *testing.T, backends ...role) {
	t.Helper()
	for began := time.Now(); !r.sees(t, backends); {
		require.Less(t, time.Since(began), testetcd.Patience)
	}
}

func (r role) sees(t *testing.T, backends []role) bool {
	t.Helper()
	owned := map[string]int{}
	for n := range 100 {
		account := fmt.Sprint("account-", n)
		status, body := r.get(t, account)
		if status != http.StatusOK {
			require.Equal(t, http.StatusServiceUnavailable, status, "%s", body)
			return false
		}
		var owner, of string
		_, err := fmt.Sscanf(body, "%s owns %s\n", &owner, &of)
		require.NoError(t, err)
		require.Equal(t, account, of)
		owned[owner]++
	}
	for _, b := range backends {
		if owned[b.address] == 0 {
			return false
		}
	}
	return len(owned) == len(backends)
}

func TestEachRequestIsAnsweredByTheOwner(t *testing.T) {
	front := start(t, runFrontend)
	status, _ := front.get(t, "account-1")
	require.Equal(t, http.StatusServiceUnavailable, status, "without a back end")
	a := start(t, runBackend)
	front.awaitOwners(t, a)
	b := start(t, runBackend)
	front.awaitOwners(t, a, b)
	a.end()
	front.awaitOwners(t, b)
	status, _ = b.get(t, "account-1")
	require.Equal(t, http.StatusOK, status)
}

func TestBackEndRefusesWhatItDoesNotOwn(t *testing.T) {
	front := start(t, runFrontend)
	a, b := start(t, runBackend), start(t, runBackend)
	front.awaitOwners(t, a, b)
	var owned int
	for n := range 100 {
		status, body := a.get(t, fmt.Sprint("account-", n))
		if status == http.StatusOK {
			owned++
		} else {
			require.Equal(t, http.StatusMisdirectedRequest, status, "%s", body)
		}
	}
	require.NotZero(t, owned)
	require.Less(t, owned, 100)
}
