package peers

import (
	"context"

	"go.uber.org/zap"

	"github.com/libcluster/libcluster"
	"github.com/libcluster/libcluster/internal/etcd"
	"github.com/libcluster/libcluster/kv"
)

// This file is all that peers knows of the interfaces of a registry: everything is left to
// the registry on etcd.

// Capabilities are those of an etcd. By default a TTL is 3 s, or ten election timeouts if
// that is more: a record has to outlive the election of a leader.
func (p *Peers) Capabilities() libcluster.Capabilities {
	can := p.etcd().Capabilities()
	can.TTL = p.cfg.ttl()
	return can
}

// Clusters returns the clusters with members that these peers keep, as [libcluster.Clusters] does.
func (p *Peers) Clusters(ctx context.Context, key string) ([]libcluster.ClusterName, error) {
	return p.etcd().Clusters(ctx, key)
}

// Enter begins a membership. It returns an error if the peers were closed.
func (p *Peers) Enter(r libcluster.Registration) (libcluster.Membership, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, errClosed
	}
	if p.self.Address == "" {
		return p.etcd().Enter(r)
	}
	if r.Logger == nil {
		r.Logger = zap.NewNop()
	}
	m := &membership{of: p, reg: r}
	var err error
	m.Membership, err = libcluster.OnStore(m).Enter(r)
	return m, err
}

// membership is that of an instance with a server. It is the store of its sessions: each
// attempt to join has the server that runs by then.
type membership struct {
	libcluster.Membership
	of     *Peers
	reg    libcluster.Registration
	shared etcd.Shared
}

// Open starts this instance's server if it does not run yet, waits until a majority of the
// peers is there, and opens a space in the store that they keep.
func (m *membership) Open(ctx context.Context, space string) (kv.Space, error) {
	run, err := m.of.awaitServer(ctx, m.reg.Logger)
	if err != nil {
		return nil, err
	}
	return etcd.Open(etcd.Config{
		Client: run.client, Prefix: "/" + space + "/", Timeout: etcd.DefaultTimeout, Silence: etcd.SilenceOf(m.reg.TTL),
		Shared: &m.shared, Log: m.reg.Logger, Passive: m.reg.Passive, Begins: run.board.begins,
	}), nil
}

// Assigned notes whether this process is primary, of which the others are told, too.
func (m *membership) Assigned(s libcluster.State) { m.of.assigned(m, s.Primary()) }

// etcd is the registry of an instance without a server.
func (p *Peers) etcd() libcluster.EtcdConfig {
	c := libcluster.EtcdConfig{CACert: p.cfg.TLS.CA, Cert: p.cfg.TLS.Cert, CertKey: p.cfg.TLS.Key}
	for _, address := range p.voters {
		c.Endpoints = append(c.Endpoints, p.url(address))
	}
	return c
}

// assigned notes whether a membership of this process is the primary of its cluster.
func (p *Peers) assigned(m *membership, primary bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.primary) > 0
	if primary {
		p.primary[m] = true
	} else {
		delete(p.primary, m)
	}
	if now := len(p.primary) > 0; now != before && p.run != nil {
		p.run.board.say(func(w *word) { w.Primary = now })
	}
}
