//go:build linux && faults

package faults_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/etcdmain"

	"github.com/libcluster/libcluster/internal/testetcd"
)

var (
	trialCount = flag.Int("trials", 0, "faults to inject in each test; 0: a few, fit for every day")
	long       = flag.Bool("long", false, "let outages last as long as they are named after, not a fraction of it")
)

// trials returns how often to inject a fault: few, unless a flag asks for more,
// and most where each takes long.
func trials(few, most int) int {
	if *trialCount > 0 {
		return min(*trialCount, most)
	}
	return few
}

// lasting returns how long a fault is to last: short, unless a flag asks for the
// full time.
func lasting(short, full time.Duration) time.Duration {
	if *long {
		return full
	}
	return short
}

// TestMain plays the part that this process was started for. In the test itself
// it also checks that nothing was left running.
func TestMain(m *testing.M) {
	switch os.Getenv(roleVariable) {
	case roleServer:
		etcdmain.Main(os.Args)
		os.Exit(1)
	case roleMember:
		play(playMember)
	case roleActor:
		play(playActor)
	case roleHolder:
		play(playHolder)
	}
	code := m.Run()
	if code == 0 {
		if err := testetcd.Leaked(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
