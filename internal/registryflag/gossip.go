package registryflag

import (
	"fmt"
	"os"
	"strings"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/gossip"
)

const gossipScheme = "gossip:"

// gossipSecretEnv encrypts what instances gossip.
const gossipSecretEnv = "LIBCLUSTER_SECRET"

// openGossip has the instances find one another at addresses, of which each takes the first
// that is this machine's and free.
func (f *Flags) openGossip(addresses string) (*Registry, error) {
	if addresses == "" {
		return nil, fmt.Errorf("%s: names no address; must be gossip:HOST:PORT[,…]", f.Shown("registry"))
	}
	var config gossip.Config
	for address := range strings.SplitSeq(addresses, ",") {
		config.Seeds = append(config.Seeds, strings.TrimSpace(address))
	}
	if secret := os.Getenv(gossipSecretEnv); secret != "" {
		config.Secret = []libcluster.Secret{libcluster.NewSecret(secret)}
	}
	return &Registry{Registry: config}, nil
}
