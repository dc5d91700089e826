"""Says when `mer ui` answers: `python ui_watch.py PID HEALTH PAGE`.

The server has taken the command's process, so somebody else must say it: this leaves a process of its own behind, which
ends once the page answers, or the server with the process id PID does not live any more.
"""

import os
import sys
import time
import urllib.request


def main() -> None:
    """Return at once; the process left behind prints one line on stderr."""
    if os.fork():
        return
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy has this machine's 127.0.0.1
    pid, health, page = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    while True:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        try:
            with opener.open(health, timeout=60):
                break
        except OSError:
            time.sleep(0.1)
    print(f"MLflow answers now: {page}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
