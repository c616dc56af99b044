// Package gossip is a registry that needs no server: instances find one another at a few
// addresses, and tell one another who is there.
//
//	cluster, err := libcluster.New(libcluster.Config{
//		Key: "mailer",
//		Registry: gossip.Config{
//			Seeds:  []string{"10.0.0.5:7946", "10.0.0.6:7946"},
//			Secret: []libcluster.Secret{libcluster.NewSecret(os.Getenv("GOSSIP_SECRET"))},
//		},
//	})
//
// Each instance listens with UDP and TCP at one port, and must be able to reach all others
// there. The machinery is that of hashicorp/memberlist.
//
// # What it cannot do
//
// Nobody decides here, so all is eventual. Until news has come to all, two instances may hold
// the same index; generations are 0; there are no modes with a plan, no reserved assignments,
// and [libcluster.Cluster.Coverage] is not available. Instances that are cut off from one
// another take one another for dead, and each side divides all indexes among its own members,
// unless [Config.Expect] is set. Where that must not be, use a registry that agrees.
//
// # Who is there
//
// Each instance probes another one every 200 ms. One that does not answer, directly or through
// others, is suspected, and is gone after about a second unless it contradicts. A process that
// has ended is noticed sooner: each instance holds connections to three others, and when one
// breaks and the port refuses two dials, all are told. If that is wrong, the instance
// contradicts, and is back. A process that ends before anybody has such a connection is noticed
// by the probes. An instance that leaves tells all, and waits up to a second for
// their answers.
//
// A record goes from its instance to each other one directly, again and again until it is
// answered for up to a second: so a change costs a packet and an answer for each instance. What
// is lost nevertheless is found when two instances compare what they know, which each does
// with another one every 10 s. Records may have 64 KiB. One that does not fit into a packet goes
// through a connection.
//
// Of two instances with one ID the one whose membership began later has it, by the clocks of
// their machines. An instance that takes over an ID which it can see has the later time, whatever
// its clock says. Join waits until the other instance has heard of it or is down.
//
// # Expect
//
// With [Config.Expect] an instance acts only while a majority of that number confirms its
// record: not while its list of members says that they are there, for that list takes many
// seconds to notice that this side is the one that is cut off. Each that has confirmed keeps the
// record for a TTL from then, unless it hears that it has gone. So the instances that were cut
// off are fenced before the others take over, as with an etcd. Join waits for the majority, so
// the first instances wait for others. A process that has ended gives its indexes up at once; a
// machine that has failed, or a process that is stopped, after the TTL.
//
// What an instance has confirmed is in its memory only. One that is restarted within a TTL, on
// the other side of a cut that begins just then, can confirm another instance there; two
// instances may then hold one index until the TTL has passed.
//
// # Seeds
//
// Any seed that answers is enough. Seeds are looked up and tried anew at growing intervals, up
// to 5 s, for as long as they are not members, and so are members that have gone for up to a
// day. So a cluster that was split heals within seconds, and an instance that was started while
// no seed was there finds the others later. At least one seed must be at the same address after
// all instances were restarted, or be a name that is kept up to date.
//
// Clusters with different names do not hear one another, even at the same addresses.
//
// # Security
//
// Without [Config.Secret] everybody who can send a packet to the port can add and remove members.
// With it nothing is read that was not encrypted with one of the secrets, and a Join that finds
// nobody but instances with another one returns an error. There is no TLS. A secret does not
// keep an instance that has it from saying anything about the others.
//
// The port must be reached as it is: behind a firewall that rejects, or a proxy that accepts in
// the place of an instance, what is said here about refused ports does not hold.
package gossip
