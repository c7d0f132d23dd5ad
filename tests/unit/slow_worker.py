"""A worker that needs seconds until it speaks; a deaf one does not end when it is told to.

Runs in: a process that tests start.
"""

import socket
import sys
import time

from brainforge_edge.core import ipc

STARTS_S = 2.5

if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[sys.argv.index("--fd") + 1])) as channel:
        if "--deaf" not in sys.argv:
            time.sleep(STARTS_S)
        channel.recv(4096)  # Start
        channel.sendall(ipc.encode(ipc.Ready()))
        channel.recv(4096)  # Stop
        if "--deaf" in sys.argv:
            time.sleep(60.0)
