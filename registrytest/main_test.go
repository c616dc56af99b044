package registrytest_test

import (
	"testing"

	"github.com/libcluster/libcluster/internal/testetcd"
)

func TestMain(m *testing.M) { testetcd.Main(m) }
