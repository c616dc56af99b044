//go:build linux && faults && !race

package faults_test

import (
	"testing"
	"time"

	"github.com/libcluster/libcluster"
)

// After a restart etcd knows no token any more, and everybody logs in at once. Each
// log-in keeps a core busy for as long as several would by default, as on a machine
// that is too small for so many: more at once than etcd answers in time. (Under the
// race detector one would take seconds.)
func TestCrowdWithPasswordsIsBackSoonAfterARestart(t *testing.T) {
	const ttl, bound = 4 * time.Second, 40 * time.Second // twice what a busy machine needs
	etcd := startServers(t, 1, "--bcrypt-cost", "12")
	requirePasswords(t, dial(t, etcd.urls()...))
	members := joinMany(t, 20, func(int) libcluster.Config {
		return libcluster.Config{TTL: ttl, Registry: libcluster.EtcdConfig{
			Endpoints: etcd.urls(), Username: "root", Password: libcluster.NewSecret("secret"),
		}}
	})
	watchBeliefs(t, members...)
	row := &figures{fault: "etcd restarted, and 20 log in with passwords"}
	for row.trials < trials(1, 10) {
		etcd.all[0].kill()
		lasts(2 * ttl)
		etcd.start(etcd.all[0])
		row.whole = append(row.whole, awaitWhole(t, bound, members))
		row.trials++
	}
	row.report(t)
}
