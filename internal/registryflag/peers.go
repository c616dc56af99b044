package registryflag

import (
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/peers"
)

const peersScheme = "peers:"

// openPeers has the registry kept by the instances that a file lists. This one is called as
// the file calls it.
func (f *Flags) openPeers(file string, use Use) (*Registry, error) {
	if file == "" {
		return nil, fmt.Errorf("%s: names no file; must be peers:FILE", f.Shown("registry"))
	}
	config, err := peers.ReadConfig(file)
	var registry *peers.Peers
	if err == nil {
		if use.Looks {
			config = config.Client()
		}
		config.Logger = zap.NewNop() // what concerns the user is said elsewhere
		if use.Verbose {
			config.Logger = nil
		}
		registry, err = peers.New(config)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s", f.Label("registry"), strings.TrimPrefix(OneLine(err), "peers: "))
	}
	return &Registry{Registry: registry, ID: registry.Self().ID, file: file, closer: registry}, nil
}
