#!/usr/bin/env python3
"""A worker that knows nothing of libcluster but its environment.

    libcluster exec -k mailer -r http://127.0.0.1:2379 --mode cooperative --partitions 8 \\
        -- ./worker.py account-1 account-2 account-3

It works on those of the accounts that are its own, and stops soon after SIGTERM. When it has ended,
another instance may begin the same part.
"""

import os
import signal
import sys
import threading
import zlib


def place():
    """Return which part this worker has, and of how many."""
    if "LIBCLUSTER_PARTITION" in os.environ:  # --mode cooperative
        return int(os.environ["LIBCLUSTER_PARTITION"]), int(os.environ["LIBCLUSTER_PARTITIONS"])
    return int(os.environ["LIBCLUSTER_INDEX"]), int(os.environ["LIBCLUSTER_TOTAL"])


def main():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    number, of = place()
    # All workers use the same hash, and Python's own is another one in each process. The number of
    # partitions never changes, so a remainder will do; when the total of workers changes, nearly
    # every account gets another worker.
    own = [account for account in sys.argv[1:] if zlib.crc32(account.encode()) % of == number]
    token = os.environ["LIBCLUSTER_GENERATION"]  # for what refuses late writes
    while not stop.is_set():
        for account in own:
            print(f"{number} of {of} works on {account} with token {token}", flush=True)
            if stop.is_set():
                break
        stop.wait(1)


if __name__ == "__main__":
    main()
