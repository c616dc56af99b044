package libclustertest_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/libcluster/libcluster/internal/testhost"
)

func TestMain(m *testing.M) {
	testhost.Parallel(16)
	goleak.VerifyTestMain(m)
}
