package onetcd_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/libcluster/libcluster"
)

func TestClustersAreToldFromWhatElseIsInAnEtcd(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	server, admin := startWithUsers(t, ctx)
	_, err := admin.RoleAdd(ctx, "one")
	require.NoError(t, err)
	_, err = admin.RoleGrantPermission(ctx, "one", "/mailer/", clientv3.GetPrefixRangeEnd("/mailer/"), clientv3.PermissionType(clientv3.PermRead))
	require.NoError(t, err)
	_, err = admin.UserAdd(ctx, "app", "secret")
	require.NoError(t, err)
	_, err = admin.UserGrantRole(ctx, "app", "one")
	require.NoError(t, err)

	root := libcluster.EtcdConfig{Endpoints: []string{server.Endpoint()}, Username: "root", Password: libcluster.NewSecret("s3cret")}
	for _, c := range []libcluster.Config{
		{Key: "mailer", Env: "production", Mode: libcluster.ModePlanned},
		{Key: "mailer", Env: "test", Partition: "north"},
		{Key: "other", Env: "production"},
	} {
		c.Registry = root
		start(t, c)
	}
	lease, err := admin.Grant(ctx, 600)
	require.NoError(t, err)
	for key, value := range map[string]string{
		"/registry/pods/default/web-1": "a pod", "/registry/leases/x": "a lease", "plain/a/b": "1", "/mailer/a/b/c/d": "1", "/mailer//x/y": "1",
	} {
		_, err := admin.Put(ctx, key, value, clientv3.WithLease(lease.ID))
		require.NoError(t, err)
	}
	_, err = admin.Put(ctx, "/gone/production/a", "1") // which nobody is behind
	require.NoError(t, err)

	mailer := []libcluster.ClusterName{
		{Key: "mailer", Env: "production", Mode: libcluster.ModePlanned}, {Key: "mailer", Partition: "north", Env: "test"},
	}
	found, err := root.Clusters(ctx, "")
	require.NoError(t, err)
	require.Equal(t, append(mailer, libcluster.ClusterName{Key: "other", Env: "production"}), found)

	app := libcluster.EtcdConfig{Endpoints: []string{server.Endpoint()}, Username: "app", Password: libcluster.NewSecret("secret")}
	found, err = app.Clusters(ctx, "mailer")
	require.NoError(t, err)
	require.Equal(t, mailer, found)
	_, err = app.Clusters(ctx, "")
	require.ErrorContains(t, err, "permission denied")
	require.ErrorContains(t, err, `key /, user "app"; grant this user's role to read`)
	_, err = app.Clusters(ctx, "a/b")
	require.ErrorContains(t, err, `Key "a/b"`)
}

// Of many keys, in several pages, and behind those of a cluster that is large.
func TestClustersBehindManyKeysAreFound(t *testing.T) {
	client, cluster := etcdClient(t), key(t)
	lease, err := client.Grant(t.Context(), 600)
	require.NoError(t, err)
	for first := 0; first < 2500; first += 100 {
		var ops []clientv3.Op
		for n := first; n < first+100; n++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("/%s/a/%04d", cluster, n), "1", clientv3.WithLease(lease.ID)))
		}
		_, err := client.Txn(t.Context()).Then(ops...).Commit()
		require.NoError(t, err)
	}
	for _, last := range []string{"1", strings.Repeat("x", 3)} { // and one that is no member's
		_, err = client.Put(t.Context(), "/"+cluster+"/z"+last+"/a", last, clientv3.WithLease(lease.ID))
		require.NoError(t, err)
	}
	found, err := libcluster.EtcdConfig{Client: client}.Clusters(t.Context(), cluster)
	require.NoError(t, err)
	require.Equal(t, []libcluster.ClusterName{{Key: cluster, Env: "a"}, {Key: cluster, Env: "z1"}}, found)
}

func TestClustersOfAnEtcdThatIsNotThereAreAnError(t *testing.T) {
	t.Parallel()
	tired := errors.New("tired")
	ask := func(requestTimeout, wait time.Duration) error {
		ctx, cancel := context.WithTimeoutCause(t.Context(), wait, tired)
		defer cancel()
		_, err := libcluster.EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}, RequestTimeout: requestTimeout}.Clusters(ctx, "")
		return err
	}
	// On a busy machine it may take longer until a connection has been refused.
	for wait := 2 * time.Second; ; wait *= 4 {
		byItself, told := ask(wait, time.Hour), ask(time.Hour, wait)
		require.Error(t, byItself)
		require.ErrorIs(t, told, tired)
		if wait > 2*time.Minute || strings.Contains(byItself.Error(), "connection refused") && strings.Contains(told.Error(), "connection refused") {
			require.ErrorContains(t, byItself, "nobody listens there")
			require.ErrorContains(t, told, "nobody listens there")
			return
		}
	}
}
