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
                            random UUID); with --nodes its number is appended
  -n, --threads COUNT       Set the number of threads to COUNT (default: 1);
                            with --nodes also a list, one for each: -n 2,1,4
      --json                Print each state as one line of JSON on standard
                            output; "event" is one of joined, rebalanced,
                            stopped, fenced, rejoined, left
      --work DURATION       Pretend to work, and take so long to stop (default:
                            0s). An index of -1 is printed when all has stopped
 etcd-based clustering:
  -r, --registry URI        Set the cluster registry URI, one of
        http://HOST:PORT[,HOST:PORT…]   an etcd
        https://HOST:PORT[,HOST:PORT…]  an etcd with TLS
        etcd://HOST:PORT[,HOST:PORT…]   http, or https with --cacert or --cert
        embedded:                       an etcd inside this program, on
                                        127.0.0.1:2379: the first process of
                                        this user to come hosts it, the others
                                        use it
        embedded:PORT                   on another port
        embedded:PORT/DIR               with its data in DIR instead of a
                                        temporary folder; with two slashes,
                                        embedded:PORT//DIR, in /DIR
      --nodes N             Run N instances in this process
  -P, --passive             Watch the cluster without being a member of it
      --mode MODE           How instances find their places (default: direct)
        direct                          each sorts all members by identifier
        planned                         by one plan, in which few places move
        exclusive                       the same, and never two at once: all
                                        stop before any starts
      --exclusive           The same as --mode exclusive
      --ttl DURATION        How long a vanished instance keeps its place
                            (default: 10s)
      --returning DURATION  Leave for a restart: keep the place for so long for
                            an instance of the same identifier (default: 0s)
      --cacert FILE         Check the servers' certificates against this one's
                            (default: the system's)
      --cert FILE           Use this client certificate
      --cert-key FILE       and its key
      --user USER           Log in to etcd. The password is taken from
                            --password-file, else LIBCLUSTER_PASSWORD, else it
                            is asked for at the terminal. USER:PASSWORD is
                            possible, too, and everybody on this machine sees it
                            (ps)
      --password-file FILE  Take the password from the first line of FILE
 Static clustering:
  -I, --index INDEX         Set this instance index to INDEX (default: 0)
  -T, --total COUNT         Set the cluster total to COUNT (default: 1)
      --static-env          Take index and total from the environment that a
                            batch scheduler sets (Kubernetes, AWS Batch, Cloud
                            Run, Slurm) or from LIBCLUSTER_INDEX and
                            LIBCLUSTER_TOTAL; -T is then the number of tasks,
                            which a Kubernetes job does not tell

Commands that are not about an instance of this program's:
  ls                        Show the members of a cluster, see cluster-test ls
                            --help
  watch                     The same, again whenever something has changed
  simulate                  Reckon what changes of members move, for each way of
                            dividing the work; see cluster-test simulate --help

It runs until SIGINT, SIGTERM or SIGHUP and then leaves the cluster. What else
comes within two seconds of that signal counts as the same one; a signal that
comes later ends it at once. SIGHUP that was ignored at the start, as nohup has
it, stays ignored.

Exit status: 0 after a signal, 1 when an instance failed to join or its ID was
taken over, 2 when the command line is wrong.
`
