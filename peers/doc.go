// Package peers is a registry that needs no server: the process of each instance in a short
// list runs an etcd server, and together these servers are the store that the cluster is kept
// in. An instance that is not in the list is a client of theirs.
//
//	p, err := peers.Load("server_a.json") // QCluster's file as it is
//	if err != nil {
//		return err // it names the file, the entry and the field
//	}
//	defer p.Close()
//	cluster, err := libcluster.New(libcluster.Config{
//		Key: "web", ID: p.Self().ID, Metadata: p.Self().Metadata, Registry: p,
//	})
//
// In QCluster's file each instance has the metadata of the others, for [Peers.Peer], and not its
// own. What all shall know, this instance included, stands in a key of its own file, metadata, and
// is published as above: [libcluster.Cluster.Primary] then has it everywhere, in a mode with a plan
// where [libcluster.Config.WatchMembers] is set. There too is the Address that libcluster.Config
// is given, such as p.Self().Address.
//
// Everything that the registry on etcd promises holds, in every mode: sessions, plans, fences
// and proofs are those of [libcluster.EtcdConfig], and [libcluster.Cluster.EtcdFence] works.
// What is new is that a majority of the peers must be there. Without it nobody can renew, and
// all are fenced at three fifths of the TTL.
//
// # Starting and stopping
//
// [Load] starts nothing. The first cluster that joins starts the server, which all clusters of
// the value share, and [Peers.Close] stops it. A Join waits for a majority, and says in the log
// for whom; it can be cancelled, and the server goes on starting. The very first start, with
// empty data folders, needs all peers at once: a peer that does not answer might have the
// cluster's data. Lists that differ refuse each other then, instead of counting different
// majorities. Later the cluster itself knows its voters.
//
// # Crashes
//
// Each server's process holds a connection to each other. When it breaks, and the port refuses
// two dials, the process has ended: its leases are revoked, and its instances are gone for all
// after milliseconds, not after the TTL. No proof of any mode rests on when a lease ends: an
// instance whose lease was revoked by mistake is fenced by its next heartbeat, and exclusive
// mode waits for its deadline in any case, from when its record was seen to have gone. In direct
// and planned mode two may then act at once until that heartbeat, for up to three fifths of the
// TTL, as after any record that is deleted by hand.
//
// Three things make such mistakes. A firewall may reject, or the port of a proxy refuse: set
// [Config.Patient] there. And a server may end while its application goes on: the disk is full
// or fails, etcd has stopped by itself, the peer was removed, or [Peers.Close] was called before
// the clusters were left. The port refuses then too. The leases are revoked, but the instances
// act until their deadline, since they have no server to hear it from. A role that two must
// never have at once needs exclusive mode.
//
// So others notice that a process has crashed, also when it is back within the TTL, unless they are
// patient. The assignment that is kept for a restart ([libcluster.Returning]) is not revoked.
//
// A host that has lost its power, or a process that is stopped, refuses nothing, and is waited
// for until the TTL.
//
// The servers have a leader, and when its process ends they elect another one, which takes an
// election timeout or two. So the leader moves itself away from the process that has index 0:
// the crash of the primary needs no election.
//
// # Data
//
// A peer that has lost its data folder enters the cluster anew by itself, as long as a majority
// still has theirs. Two of three that have lost them wait for their return, and never make a
// second cluster. If all have lost theirs, they begin anew, and keep nothing but that fencing tokens
// grow. What they make then is another cluster: all peers draw lots before it is made, of which
// etcd's cluster ID is computed. So an old folder that comes back, as from a backup, is refused. Its
// peer says which folder it is, and waits until it is moved away; the others say which peer has it.
//
// A new peer enters when it starts with a list that names all the others; it
// is a learner until it has the data. [Peers.Remove] removes a peer for good, as does the
// command libcluster peers remove.
//
// When the disk is full, or fails, etcd cannot go on; by itself it would end the process. Here
// the server ends and the application does not: its instances are fenced when their deadline
// has passed, and try every second to start the server again. In two cases this does not help:
// some failures of the database file panic on a goroutine of etcd's own, which ends the
// process; and others leave goroutines behind that hold the lock of the folder, so that the
// server only comes back with a new process, as [Peers.Close] then says.
//
// A database of 2 GB is full: etcd refuses all writes then. Old revisions are dropped after
// five to ten minutes, and a server whose database has half its room again makes it smaller
// and goes on. More live data than 1 GB is more than that helps against.
//
// One port serves all: the peers, clients, and GET /ping, which is answered with pong. Without
// [Config.TLS] every program that reaches it may read, write and reconfigure everything.
// The port holds up to 1,024 connections at a time; further ones wait until one is closed.
//
// The package sets the size of etcd's log files, wal.SegmentSizeBytes, to 2 MB for the whole
// process.
package peers
