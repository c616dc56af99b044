//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster/internal/testetcd"
)

// putRecords writes as many members' records as strangers, of so many bytes each.
func putRecords(b *testing.B, prefix string, number, size int) {
	b.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{testetcd.URL(b)}})
	require.NoError(b, err)
	defer client.Close()
	lease, err := client.Grant(b.Context(), 3600)
	require.NoError(b, err)
	record, err := json.Marshal(map[string]any{"workers": 1, "metadata": map[string]string{"x": strings.Repeat("x", size-40)}})
	require.NoError(b, err)
	var ops []clientv3.Op
	for n := range number {
		ops = append(ops, clientv3.OpPut(fmt.Sprintf("%sx%06d", prefix, n), string(record), clientv3.WithLease(lease.ID)))
		if len(ops) == 100 || len(ops)*size > 1<<20 || n == number-1 {
			_, err := client.Txn(b.Context()).Then(ops...).Commit()
			require.NoError(b, err)
			ops = nil
		}
	}
}

// peak is the most memory that a process has had, in MiB; 0 if it has ended.
func peak(b *testing.B, pid int) (kib float64) {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(status) {
		if _, after, found := bytes.Cut(line, []byte("VmHWM:")); found {
			_, err := fmt.Sscan(string(after), &kib)
			require.NoError(b, err)
		}
	}
	return kib / 1024
}

// BenchmarkMemoryAmidLargeRecords reports what an instance takes that joins a cluster of
// many records, or is refused there. All of them stay in an etcd that takes 512 MiB.
func BenchmarkMemoryAmidLargeRecords(b *testing.B) {
	for _, c := range []struct{ number, size int }{{0, 0}, {1000, 1 << 10}, {900, 60_000}, {1500, 60_000}, {3000, 60_000}} {
		b.Run(fmt.Sprintf("%dx%d", c.number, c.size), func(b *testing.B) {
			cluster := fmt.Sprint("memory", time.Now().UnixNano())
			if c.number > 0 {
				putRecords(b, "/"+cluster+"/production/", c.number, c.size)
			}
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for b.Loop() {
				begun, most := time.Now(), 0.0
				p := launch(b, "-k", cluster, "-i", "node", "-r", testetcd.URL(b))
				end := "neither joined nor refused"
				for now := range tick.C {
					if now.Sub(begun) > 20*time.Second {
						break
					}
					most = max(most, peak(b, p.command.Process.Pid))
					text := p.stderr.String()
					if strings.Contains(text, "sleeping until terminated") {
						end = "joined"
						break
					}
					if strings.Contains(text, "failed to join") {
						end = strings.TrimSpace(text)
						break
					}
				}
				b.ReportMetric(time.Since(begun).Seconds(), "s")
				b.ReportMetric(most, "MiB")
				b.Logf("%.400s", end)
				_ = p.command.Process.Kill() // an error says that it has ended
				<-p.ended
			}
		})
	}
}
