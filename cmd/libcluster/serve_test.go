package main

import (
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/testcommand"
)

// served starts serve, and returns where it serves.
func served(t *testing.T, args ...string) (p *testcommand.Running, url string) {
	t.Helper()
	p = start(t, append([]string{"serve", "-k", key(t), "-r", etcdURL(t), "--listen", ":0"}, args...)...)
	serving := regexp.MustCompile(`(?m)^libcluster: serving (http://127\.0\.0\.1:\d+/)$`)
	p.Stderr.Await(t, "the address", serving.MatchString)
	return p, serving.FindStringSubmatch(p.Stderr.String())[1]
}

// get returns the status and the body of the answer to a request with a token, if there is one.
func get(t *testing.T, url, token string) (status int, body string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	require.NoError(t, err)
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func TestClusterIsServedUntilASignal(t *testing.T) {
	a := instance(t, "a", libcluster.ModeCooperative, nil)
	require.NoError(t, a.Join(t.Context()))
	p, url := served(t)
	status, page := get(t, url, "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, page, key(t))
	_, members := get(t, url+"v1/members", "")
	var body struct{ Members []struct{ ID string } }
	require.NoError(t, json.Unmarshal([]byte(members), &body))
	require.Len(t, body.Members, 1)
	require.Equal(t, "a", body.Members[0].ID)
	p.Signal()
	require.Zero(t, p.Ends(t))
}

func TestServeNeedsTheTokenOfTheEnvironment(t *testing.T) {
	const token = "a token of many bytes"
	t.Setenv(tokenEnv, token)
	p, url := served(t)
	status, _ := get(t, url+"v1/state", "")
	require.Equal(t, http.StatusUnauthorized, status)
	status, _ = get(t, url+"v1/state", token)
	require.Equal(t, http.StatusOK, status)
	p.Signal()
	require.Zero(t, p.Ends(t))
	require.NotContains(t, p.Stderr.String(), token)

	t.Setenv(tokenEnv, "short")
	p = start(t, "serve", "-k", key(t), "-r", etcdURL(t))
	require.Equal(t, exitUsage, p.Ends(t))
	require.Contains(t, p.Stderr.String(), tokenEnv+": ")
	require.NotContains(t, p.Stderr.String(), "short")
}

func TestWhatCannotBeServedIsAnErrorThatSaysWhatToDo(t *testing.T) {
	for line, want := range map[string]struct {
		status int
		text   string
	}{
		"--listen 0.0.0.0:0":               {exitFailed, "other machines can reach it"},
		"--listen nowhere":                 {exitFailed, "must be HOST:PORT"},
		"--tls-cert x.pem":                 {exitUsage, "--tls-cert and --tls-key: give both"},
		"--client-ca x.pem":                {exitUsage, "--client-ca: needs --tls-cert"},
		"--tls-cert x.pem --tls-key x.pem": {exitUsage, "x.pem: no such file"},
		"-o json":                          {exitUsage, `unknown flag "-o"`},
	} {
		p := start(t, append([]string{"serve", "-k", key(t), "-r", etcdURL(t)}, strings.Fields(line)...)...)
		require.Equal(t, want.status, p.Ends(t), line)
		require.Contains(t, p.Stderr.String(), want.text)
	}
}
