//go:build !wasm

package libcluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// What Clusters reads at once, at most in all, and of how many records of each cluster.
const (
	clustersPage    = 1000
	mostClusterKeys = 200_000
	clusterSamples  = 8
)

// Clusters returns the clusters in this etcd that have members, by key, partition and
// environment, and if key is not empty only those with that key. A cluster is there if one of
// the first eight keys /KEY/ENV/ID, or /KEY/PARTITION/ENV/ID, is under a lease and holds a
// member's record: what others keep in this etcd is left out. The user must be allowed to read all below "/", or with
// a key all below /KEY/.
//
// It reads the names of all these keys, in pages, and those records one by one: what is read
// at once is bounded, and the time is by nothing but ctx. It makes one attempt to connect. Of more than 200,000 keys
// it returns an error. With [EtcdConfig.Client] it uses that.
func (e EtcdConfig) Clusters(ctx context.Context, key string) ([]ClusterName, error) {
	if err := checkClustersKey(key); err != nil {
		return nil, err
	}
	prefix := "/"
	if key != "" {
		prefix += key + "/"
	}
	var connections etcdConnections
	client, err := e.client(&connections, connections.loginAs(e.Username, e.Password, nil), zap.NewNop())
	if err != nil {
		return nil, err
	}
	if e.Client == nil {
		defer client.Close() // nothing was written
	}
	var found []ClusterName
	if err = connect(ctx, client, e.requestTimeout(), func() {}); err == nil {
		found, err = clustersBelow(ctx, client, prefix)
	}
	if err != nil && (errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil) {
		err = fmt.Errorf("no answer in time: %w%s", err, connectionTrouble(client))
	}
	if err != nil {
		return nil, cannotList(e.explained(err, prefix))
	}
	return found, nil
}

// clustersBelow finds the clusters whose keys begin with a prefix.
func clustersBelow(ctx context.Context, client *clientv3.Client, prefix string) (found []ClusterName, err error) {
	samples, err := sampleClusters(ctx, client, prefix)
	if err != nil {
		return nil, err
	}
	for name, keys := range samples {
		for _, key := range keys {
			got, err := client.Get(ctx, key)
			if err != nil {
				return nil, err
			}
			if len(got.Kvs) == 0 || got.Kvs[0].Lease == 0 {
				continue // it has left, or nobody is behind it
			}
			if m, err := ParseMember(key[strings.LastIndexByte(key, '/')+1:], got.Kvs[0].Value); err == nil {
				name.Mode = m.plans.mode
				found = append(found, name)
				break
			}
		}
	}
	slices.SortFunc(found, ClusterName.compare)
	return found, nil
}

// sampleClusters returns what may be clusters, each with a few of the keys that may be
// members'. It reads names alone, with which etcd does not tell the lease.
func sampleClusters(ctx context.Context, client *clientv3.Client, prefix string) (map[ClusterName][]string, error) {
	samples := map[ClusterName][]string{}
	from, end := prefix, clientv3.GetPrefixRangeEnd(prefix)
	for read := 0; ; {
		got, err := client.Get(ctx, from, clientv3.WithRange(end), clientv3.WithKeysOnly(), clientv3.WithLimit(clustersPage))
		if err != nil {
			return nil, err
		}
		for _, of := range got.Kvs {
			name, may := clusterOf(string(of.Key))
			if may && len(samples[name]) < clusterSamples {
				samples[name] = append(samples[name], string(of.Key))
			}
		}
		if !got.More || len(got.Kvs) == 0 {
			return samples, nil
		}
		if read += len(got.Kvs); read >= mostClusterKeys {
			return nil, fmt.Errorf("there are more than %d keys below %s", mostClusterKeys, prefix)
		}
		from = string(got.Kvs[len(got.Kvs)-1].Key) + "\x00"
	}
}

// clusterOf returns the cluster whose member may have a key, if there may be one.
func clusterOf(key string) (name ClusterName, may bool) {
	at := strings.LastIndexByte(key, '/')
	if at < 1 || key[0] != '/' || checkName("", key[at+1:]) != nil {
		return name, false
	}
	return clusterNamed(key[1:at])
}
