package registryflag

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	"github.com/libcluster/libcluster/embedded"
)

const defaultPort = 2379

const allowedURIs = "must be http://HOST:PORT[,…], https://HOST:PORT[,…], etcd://HOST:PORT[,…], " +
	"embedded:, embedded:PORT, embedded:PORT/DIR, sqlite:FILE, dir:FOLDER, peers:FILE, gossip:HOST:PORT[,…], " +
	"postgres://USER:PASSWORD@HOST/DB or mysql://USER:PASSWORD@HOST[:PORT]/DB"

// parseRegistry reads a registry URI: either one of an etcd, or, and then
// config is not nil, the embedded one, which is at endpoints[0]. secure says
// what etcd:// means, https or http. Errors speak of the URI and don't repeat it.
func parseRegistry(uri string, secure bool) (endpoints []string, config *embedded.Config, err error) {
	if isEmbedded(uri) {
		config, err := parseEmbedded(uri)
		if err != nil {
			return nil, nil, err
		}
		return []string{fmt.Sprintf("https://127.0.0.1:%d", config.Port)}, config, nil
	}
	scheme := ""
	for one := range strings.SplitSeq(uri, ",") {
		host := strings.TrimSpace(one)
		if before, after, ok := strings.Cut(host, "://"); ok {
			scheme, host = strings.ToLower(before), after
		}
		switch scheme {
		case "http", "https":
		case "etcd":
			scheme = "http"
			if secure {
				scheme = "https"
			}
		default:
			if _, port, err := net.SplitHostPort(host); err == nil {
				if _, err := parsePort(port); err == nil {
					return nil, nil, fmt.Errorf("has no scheme; did you mean http://%s? It %s", strings.TrimSpace(uri), allowedURIs)
				}
			}
			return nil, nil, errors.New(allowedURIs)
		}
		endpoint := scheme + "://" + host
		if err := checkPort(endpoint); err != nil {
			return nil, nil, err
		}
		endpoints = append(endpoints, endpoint)
	}
	return endpoints, nil, nil
}

// checkPort refuses a port that nothing can listen on, for which the library
// would wait. What else is wrong with an endpoint the library says itself.
func checkPort(endpoint string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Port() == "" {
		return nil
	}
	if _, err := parsePort(u.Port()); err != nil {
		return fmt.Errorf("%q: %w", endpoint, err)
	}
	return nil
}

func parsePort(s string) (int, error) {
	port, err := strconv.ParseUint(s, 10, 16)
	if err != nil || port == 0 {
		return 0, fmt.Errorf("port %q must be 1 to 65535", s)
	}
	return int(port), nil
}

const embeddedScheme = "embedded:"

func isEmbedded(uri string) bool {
	_, ok := cutScheme(uri, embeddedScheme)
	return ok
}

// cutScheme returns what follows a scheme.
func cutScheme(uri, scheme string) (rest string, ok bool) {
	if len(uri) < len(scheme) || !strings.EqualFold(uri[:len(scheme)], scheme) {
		return "", false
	}
	return uri[len(scheme):], true
}

const sqliteScheme = "sqlite:"

const dirScheme = "dir:"

// hasNoServer reports whether the processes share files, and nothing else.
func hasNoServer(uri string) bool {
	_, file := cutScheme(uri, sqliteScheme)
	_, folder := cutScheme(uri, dirScheme)
	return file || folder
}

// parseEmbedded reads what follows "embedded:". One slash ends the port and
// belongs to neither, so a folder that begins with another one is absolute. A
// folder without a port is refused: embedded:/DIR would read either way.
func parseEmbedded(uri string) (*embedded.Config, error) {
	rest := uri[len(embeddedScheme):]
	if rest == "" {
		return &embedded.Config{Port: defaultPort}, nil
	}
	port, dir, named := strings.Cut(rest, "/")
	if port == "" {
		return nil, fmt.Errorf("give the port before the folder, as in embedded:%d/DIR", defaultPort)
	}
	if named && dir == "" {
		return nil, errors.New("names no folder after the slash; leave the slash out for a temporary one")
	}
	number, err := parsePort(port)
	if err != nil {
		return nil, err
	}
	return &embedded.Config{Port: number, Dir: dir}, nil
}
