package testcommand

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

// Hostile fills a cluster with characters that a terminal obeys: in all that a record may say, in keys and values that
// are no records, in a plan, and in what its coordinator says.
func Hostile(t testing.TB, endpoint, cluster, mode string) {
	t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{endpoint}})
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
		"x":                      string(record),
		"k" + escapes:            "1",
		"y":                      escapes,
		"z":                      `{"workers":1,"mode":"` + escapes + `"}`,
		"/p/plan":                fmt.Sprintf("%s\tcommit\t5\t1\n%x\t0\t0\t1\tx\ta%s\n", mode, lease.ID, escapes),
		"/p/coordinator":         fmt.Sprintf("%s\t%s\n%d\tw%s\n%d\tslow\n", mode, escapes, now, escapes, now),
		"/acknowledged/" + "a\t": escapes,
	} {
		_, err := client.Put(t.Context(), "/"+cluster+"/production/"+id, value, clientv3.WithLease(lease.ID))
		require.NoError(t, err)
	}
}

// RequirePlain wants nothing in a text but what can be printed, and line breaks.
func RequirePlain(t testing.TB, text string) {
	t.Helper()
	require.True(t, utf8.ValidString(text), "%q", text)
	for _, r := range text {
		require.True(t, r == '\n' || unicode.IsPrint(r), "%q in %q", r, text)
	}
}
