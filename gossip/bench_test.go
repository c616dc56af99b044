//go:build unix

package gossip_test

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

var rest = flag.Duration("rest", 10*time.Second, "how long thirty instances rest in the benchmark")

// BenchmarkThirtyInstances starts 30 in the same instant and reports how long it takes until all
// see all, until all have noticed that a process has ended and that one which is cut off has
// gone, and how long Leave takes until all know. Of the time at rest it reports how many bytes a
// node sends in a second, of each packet with 28 for its headers and of each connection what is
// written; the time of a processor that all 30 take, in percent; and how often one has taken
// another one for dead.
func BenchmarkThirtyInstances(b *testing.B) {
	const instances = 30
	for b.Loop() {
		var cut cuts
		var sent, lost atomic.Int64
		world := gossip.World{Listen: func(at netip.AddrPort) (gossip.Port, error) {
			p, err := gossip.Listen(at)
			return countedPort{p, &cut, &sent}, err
		}}
		where := addresses(b, instances)
		registry := keep(gossip.Config{})
		all := make([]*libcluster.Cluster, instances)
		start := time.Now()
		var joining sync.WaitGroup
		for n := range instances {
			registry.Config = at(where[n], where[:3], world)
			all[n] = newCluster(b, fmt.Sprintf("%02d", n), registry.Config, registry.given, func(c *libcluster.Config) {
				c.OnMembers = func(change libcluster.MembersChange) { lost.Add(int64(len(change.Left))) }
			})
			joining.Go(func() { join(b, all[n]) })
		}
		joining.Wait()
		await := func(some []*libcluster.Cluster, total int, metric string, since time.Time) {
			for _, c := range some {
				eventually(b, metric, func() bool { return c.State().Total == total })
			}
			b.ReportMetric(time.Since(since).Seconds(), metric)
		}
		await(all, instances, "s-all-see-all", start)
		time.Sleep(time.Second) // let all that has come of it be said
		sent.Store(0)
		lost.Store(0)
		start = time.Now()
		worked := processor(b)
		time.Sleep(*rest)
		rested := time.Since(start).Seconds()
		b.ReportMetric(float64(sent.Load())/rested/instances, "B/node/s")
		b.ReportMetric(100*(processor(b)-worked).Seconds()/rested, "%-of-a-processor")
		b.ReportMetric(float64(lost.Load()), "false-deaths")

		start = time.Now()
		gossip.Kill(registry.session("29"))
		await(all[:29], 29, "s-killed", start)
		start = time.Now()
		leave(b, all[28])
		await(all[:28], 28, "s-left", start)
		start = time.Now()
		cut.cut(where[27])
		await(all[:27], 27, "s-cut-off", start)
		cut.cut()
		for _, c := range all[:28] {
			leave(b, c)
		}
		b.ReportMetric(0, "ns/op")
	}
}

// countedPort is a real one that can be cut off, and counts the bytes that it sends.
type countedPort struct {
	gossip.Port
	net  *cuts
	sent *atomic.Int64
}

func (p countedPort) Accept() (net.Conn, error) {
	conn, err := p.Port.Accept()
	return countedConn{conn, p.sent}, err
}

func (p countedPort) Dial(ctx context.Context, to string, timeout time.Duration) (net.Conn, error) {
	if !p.net.connects(p.Addr().String(), to) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
	}
	conn, err := p.Port.Dial(ctx, to, timeout)
	return countedConn{conn, p.sent}, err
}

func (p countedPort) WriteTo(b []byte, to netip.AddrPort) error {
	if !p.net.reaches(p.Addr().String(), to.String()) {
		return nil
	}
	const headers = 28 // those of IP and UDP
	p.sent.Add(int64(len(b) + headers))
	return p.Port.WriteTo(b, to)
}

type countedConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c countedConn) Write(b []byte) (int, error) {
	c.sent.Add(int64(len(b)))
	return c.Conn.Write(b)
}

// processor returns the time of a processor that this process has taken.
func processor(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
