// Package hostport is what is said of addresses by all that listen for other instances.
package hostport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"syscall"

	"github.com/hashicorp/go-sockaddr"
)

// Split returns the parts of HOST:PORT. Port 0 stands for any port, if that may be.
func Split(address string, anyPort bool) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, fmt.Errorf("%q must be HOST:PORT", address)
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if err != nil || number == 0 && !anyPort {
		return "", 0, fmt.Errorf("%q: port %q must be 1 to 65535", address, text)
	}
	return host, uint16(number), nil
}

// Reachable returns an error if a host is none that others can reach.
func Reachable(host string) error {
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		return fmt.Errorf("host %q is none that others can reach; give a name or an address", host)
	}
	return nil
}

// Private returns the private address of this machine, by which others may reach it.
func Private() (netip.Addr, error) {
	private, err := sockaddr.GetPrivateIP()
	if err == nil && private == "" {
		err = errors.New("this machine has no private address")
	}
	if err != nil {
		return netip.Addr{}, err
	}
	return netip.ParseAddr(private)
}

// IsGone reports whether an address is none of this machine's.
func IsGone(ip netip.Addr) bool {
	own, err := net.InterfaceAddrs()
	return err == nil && !slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == ip.WithZone("")
	})
}

// The numbers are Windows', where others have these names for what it never returns.

// IsInUse reports whether a port is another one's.
func IsInUse(err error) bool {
	return errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.Errno(10048))
}

// IsRefused reports whether nobody listens at an address any more: its kernel says so.
func IsRefused(err error) bool {
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.Errno(10061))
}
