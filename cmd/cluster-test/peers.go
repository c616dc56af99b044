package main

import (
	"fmt"
	"strings"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster/peers"
)

const peersScheme = "peers:"

// peersInto has the registry kept by the instances that a file lists. This one is called as
// the file calls it, and has the default TTL of such a registry.
func (f *flags) peersInto(file string, o *options) error {
	if file == "" {
		return fmt.Errorf("%s: names no file; must be peers:FILE", f.shown("registry"))
	}
	config, err := peers.ReadConfig(file)
	var registry *peers.Peers
	if err == nil {
		if f.set.Lookup("timeout") != nil { // it only looks
			config = config.Client()
		}
		config.Logger = zap.NewNop() // what concerns the user is in the transcript
		if f.verbose {
			config.Logger = nil
		}
		registry, err = peers.New(config)
	}
	if err != nil {
		return fmt.Errorf("%s: %s", label(f.set.Lookup("registry")), strings.TrimPrefix(oneLine(err), "peers: "))
	}
	if o.instance == "" {
		o.instance = registry.Self().ID
	}
	if !f.given("ttl") {
		o.ttl = 0
	}
	o.registry, o.file, o.database = registry, file, registry
	return nil
}
