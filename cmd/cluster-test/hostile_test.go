package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// escapes clear a terminal, colour it, ring its bell and turn its text around.
const escapes = "\x1b[2J\u009b31m\x7f\a\u202e\r"

// hostile fills a cluster with them: in all that a record may say, in keys and values that
// are no records, in a plan, and in what its coordinator says.
func hostile(t *testing.T, mode string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{etcdURL(t)}})
	require.NoError(t, err)
	defer client.Close()
	lease, err := client.Grant(t.Context(), 600)
	require.NoError(t, err)
	record, err := json.Marshal(map[string]any{
		"workers": 1, "mode": mode, "address": "a" + escapes, "version": "v" + escapes, "metadata": map[string]string{escapes: escapes},
	})
	require.NoError(t, err)
	now := time.Now().UnixMilli()
	for id, value := range map[string]string{
		"x":                 string(record),
		"k" + escapes:       "1",
		"y":                 escapes,
		"z":                 `{"workers":1,"mode":"` + escapes + `"}`,
		"/p/plan":           fmt.Sprintf("%s\tcommit\t5\t1\n%x\t0\t0\t1\tx\ta%s\n", mode, lease.ID, escapes),
		"/p/coordinator":    fmt.Sprintf("%s\t%s\n%d\tw%s\n%d\tslow\n", mode, escapes, now, escapes, now),
		"/drained/" + "a\t": escapes,
	} {
		_, err := client.Put(t.Context(), "/"+key(t)+"/production/"+id, value, clientv3.WithLease(lease.ID))
		require.NoError(t, err)
	}
}

// plain wants nothing in a text but what can be printed, and line breaks.
func plain(t *testing.T, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text), "%q", text)
	for _, r := range text {
		require.True(t, r == '\n' || unicode.IsPrint(r), "%q in %q", r, text)
	}
}

func TestWhatOthersWroteReachesNoTerminalAsItIs(t *testing.T) {
	for _, mode := range []string{"direct", "planned"} {
		t.Run(mode, func(t *testing.T) {
			hostile(t, mode)
			for _, options := range [][]string{nil, {"--json"}} {
				p := start(t, append([]string{"watch", "-v", "--mode", mode, "-k", key(t), "-r", etcdURL(t)}, options...)...)
				p.stdout.awaitText(t, "generation")
				p.stdout.await(t, "the address", func(text string) bool { return len(text) > 50 })
				p.signal()
				require.Equal(t, exitOK, p.ends(t))
				require.Contains(t, p.stdout.String(), `a\`)
				plain(t, p.stdout.String())
				plain(t, p.stderr.String())
			}
		})
	}
}

func TestWhatOthersWroteIsQuotedInTheLogOfAnInstance(t *testing.T) {
	hostile(t, "planned")
	p := start(t, "-v", "--mode", "planned", "-i", "node", "-k", key(t), "-r", etcdURL(t))
	p.stderr.awaitText(t, "slow")
	p.signal()
	require.Equal(t, exitOK, p.ends(t))
	plain(t, p.stderr.String())
}
