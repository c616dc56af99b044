package embedded

import (
	"context"
	"fmt"
	"net"
	"strconv"

	"github.com/libcluster/libcluster/internal/etcdserver"
)

const loopback = "127.0.0.1"

func listen(ctx context.Context, port int) (net.Listener, error) {
	address := net.JoinHostPort(loopback, strconv.Itoa(port))
	l, err := new(net.ListenConfig).Listen(ctx, "tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be used: %w; if that is an etcd, use it as -r http://%s, "+
			"or choose another port as embedded:PORT", address, err, address)
	}
	return etcdserver.Tracked(l), nil
}
