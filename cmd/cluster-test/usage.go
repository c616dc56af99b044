package main

// usage is what --help prints. The shape, with its sections, is the original's.
const usage = `Usage: cluster-test [OPTIONS]

OPTIONS are one or more of:
  -h, --help                Print this message and exit
  -v, --verbose             Be more verbose: show the library's log
  -k, --key KEY             Set the cluster key to KEY (default: cluster-test)
  -e, --env ENV             Set the cluster environment to ENV (default:
                            production)
  -p, --partition NAME      Set the cluster partition to NAME (default: none)
  -i, --instance ID         Set the instance identifier to ID (default: a
                            random UUID); with --nodes, each instance appends
                            its number
  -n, --threads COUNT       Set the number of threads to COUNT (default: 1);
                            with --nodes also a list, one for each: -n 2,1,4
      --json                Print each state as one line of JSON on standard
                            output; "event" is one of joined, rebalanced,
                            stopped, fenced, rejoined, left
      --work DURATION       Pretend to work, and take DURATION to stop (default:
                            0s). Index -1 is printed when the work has stopped
 etcd-based clustering:
  -r, --registry URI        Set the cluster registry URI, one of
        http://HOST:PORT[,HOST:PORT…]   an etcd
        https://HOST:PORT[,HOST:PORT…]  an etcd with TLS
        etcd://HOST:PORT[,HOST:PORT…]   http, or https with --cacert or --cert
        embedded:                       an etcd inside this program, on
                                        127.0.0.1:2379: this user's first
                                        process hosts it, the others use it
        embedded:PORT                   on another port
        embedded:PORT/DIR               with its data in DIR instead of a
                                        temporary folder; with two slashes,
                                        embedded:PORT//DIR, in /DIR
        sqlite:FILE                     a file that all processes of this
                                        machine use; no server is needed
        dir:FOLDER                      the same with a folder, which must exist
        peers:FILE                      the instances that FILE lists, as
                                        QCluster has it: each runs a server
                                        for all, with its data beside FILE
        gossip:HOST:PORT[,HOST:PORT…]   the instances themselves, mode direct:
                                        each listens at the first of these that
                                        is this machine's and free, or at any
                                        port, and finds the others at these. If
                                        LIBCLUSTER_SECRET is set, 16 bytes or
                                        more, it encrypts what they say
        postgres://USER:PASSWORD@HOST[:PORT]/DB  a PostgreSQL
        mysql://USER:PASSWORD@HOST[:PORT]/DB     a MySQL or a MariaDB; of both,
                                        options of the driver go after a '?'
      --heartbeats HOST:PORT
                            Send heartbeats by UDP beside the folder or the
                            database, so that a crash is noticed at once, and
                            listen at HOST:PORT, such as :0
      --nodes N             Run N instances in this process
  -P, --passive             Watch the cluster without being a member of it
      --mode MODE           How instances get their indexes (default: direct)
        direct                          each sorts all members by identifier
        planned                         by one plan, in which few indexes move
        exclusive                       the same, and never two at once: all
                                        stop before any starts
        cooperative                     partitions instead of indexes, and only
                                        those that move are stopped
      --partitions N        How many there are in mode cooperative, the same
                            for all instances (default: 256)
      --exclusive           The same as --mode exclusive
      --ttl DURATION        How long a vanished instance keeps its indexes
                            (default: 10s; with peers: 3s)
      --returning DURATION  Leave for a restart: reserve the indexes for an
                            instance with the same identifier for DURATION
                            (default: 0s)
      --cacert FILE         Check the servers' certificates against FILE
                            (default: the system's)
      --cert FILE           Use this client certificate
      --cert-key FILE       Use this key of the client certificate
      --user USER           Log in to etcd, or to the database. The password is
                            taken from --password-file, else
                            LIBCLUSTER_PASSWORD, else it is asked for at the
                            terminal. USER:PASSWORD works too, here and in a
                            URI, but everybody on this machine can see it (ps)
      --password-file FILE  Take the password from the first line of FILE
 Static clustering:
  -I, --index INDEX         Set this instance index to INDEX (default: 0)
  -T, --total COUNT         Set the cluster total to COUNT (default: 1)
      --static-env          Take index and total from the environment that a
                            batch scheduler sets (Kubernetes, AWS Batch, Cloud
                            Run, Slurm) or from LIBCLUSTER_INDEX and
                            LIBCLUSTER_TOTAL; -T is then the number of tasks,
                            which a Kubernetes job does not tell

The commands ls, watch and simulate are those of libcluster: see libcluster
--help.

cluster-test runs until SIGINT, SIGTERM or SIGHUP and then leaves the cluster.
Signals within two seconds of the first count as the same signal; a later one
ends the program at once. If SIGHUP was ignored at the start, as with nohup, it
stays ignored.

Exit status: 0 after a signal, 1 when an instance failed to join or its ID was
taken over, 2 when the command line is wrong.
`
