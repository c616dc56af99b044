package libcluster_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// BenchmarkCostOfHandOver counts what all instances and etcd send one another when one more
// joins and when one leaves, of 4,096 partitions, in mode cooperative and in mode exclusive,
// and how long the plan is then. Nobody renews meanwhile.
func BenchmarkCostOfHandOver(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		if n > *siteSize {
			break
		}
		b.Run(fmt.Sprintf("instances=%d", n), func(b *testing.B) {
			var costs [2]cost
			var sites [2]*site
			for i, mode := range handOverModes {
				sites[i] = newSite(b, mode, n, 4096, costs[i].client(b))
				sites[i].awaitHeard()
			}
			var join, leave [2]cost
			for b.Loop() {
				for i, s := range sites {
					costs[i].of(&join[i], s, s.join)
					costs[i].of(&leave[i], s, s.leave)
				}
			}
			b.ReportMetric(0, "ns/op") // it says nothing
			for i, s := range sites {
				plan, err := etcdClient(b).Get(b.Context(), "/"+s.key+"/production//p/plan")
				require.NoError(b, err)
				report := func(value int64, what string) {
					b.ReportMetric(float64(value)/float64(b.N), s.mode.String()+"-"+what)
				}
				b.ReportMetric(float64(len(plan.Kvs[0].Value)), s.mode.String()+"-plan-B")
				report(join[i].messages.Load(), "join-messages")
				report(join[i].bytes.Load(), "join-B")
				report(leave[i].messages.Load(), "leave-messages")
				report(leave[i].bytes.Load(), "leave-B")
			}
		})
	}
}

// cost counts the messages of clients, in both directions, and of these the requests for a
// claim and for the next plan.
type cost struct{ messages, bytes, claims, plans atomic.Int64 }

// client returns what makes clients that are counted.
func (c *cost) client(b *testing.B) func() *clientv3.Client {
	return func() *clientv3.Client {
		return etcdClient(b, func(config *clientv3.Config) {
			config.DialOptions = append(config.DialOptions, grpc.WithStatsHandler(c))
		})
	}
}

// of adds what a change costs, until all have heard of it, to another count.
func (c *cost) of(sum *cost, s *site, change func()) {
	messages, bytes := c.messages.Load(), c.bytes.Load()
	s.awaited(change)
	s.awaitHeard()
	sum.messages.Add(c.messages.Load() - messages)
	sum.bytes.Add(c.bytes.Load() - bytes)
}

func (c *cost) HandleRPC(_ context.Context, what stats.RPCStats) {
	size := 0
	switch w := what.(type) {
	case *stats.InPayload:
		size = w.WireLength
	case *stats.OutPayload:
		size = w.WireLength
		c.request(w.Payload)
	default:
		return
	}
	c.messages.Add(1)
	c.bytes.Add(int64(size))
}

// request counts what puts one key. Whether the user may write these keys is asked for all of
// them at once.
func (c *cost) request(sent any) {
	tx, is := sent.(*etcdserverpb.TxnRequest)
	if !is || len(tx.Success) != 1 {
		return
	}
	switch key := string(tx.Success[0].GetRequestPut().GetKey()); {
	case strings.HasSuffix(key, "//p/coordinator"):
		c.claims.Add(1)
	case strings.HasSuffix(key, "//p/plan"):
		c.plans.Add(1)
	}
}

func (*cost) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*cost) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*cost) HandleConn(context.Context, stats.ConnStats)                       {}
