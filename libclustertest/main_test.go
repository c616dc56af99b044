package libclustertest_test

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if how := os.Getenv(panicking); how != "" {
		panicInRun(how)
	}
	goleak.VerifyTestMain(m)
}
