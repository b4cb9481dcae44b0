"""Give the PID of a dead client to another process, and look what that one finds in the queue.

    unshare --pid --fork --mount-proc python -m tests.fault.pid_reuse QUESTION DIRECTORY OPTION...

Exit code 0: nothing; 1: a dead client's reply; 77: the next PID cannot be chosen here.
"""

from __future__ import annotations

import os
import sys
import time

import sysv_ipc

from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST
from spectacles.lab.programs.process import ServerProcess

TIMES = 5
LATE = 10.0  # seconds
NOT_HERE = 77


def in_a_child(work: object) -> int:
    """Run work() in a forked child; return its PID, once it has ended, and raise unless it ended well."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = work()  # type: ignore[operator]
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"child {pid}: {os.waitstatus_to_exitcode(status)}")
    return pid


def wait_for(queue: sysv_ipc.MessageQueue, count: int) -> None:
    """Wait until `count` messages are in the queue."""
    deadline = time.monotonic() + LATE
    while queue.current_messages != count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{queue.current_messages} messages instead of {count}")
        time.sleep(0.001)


def main(question: str, directory: str, *options: str) -> int:
    """Do it some times over."""
    key = int(options[options.index("--key") + 1], 0)
    with ServerProcess(question, directory, *options):
        queue = sysv_ipc.MessageQueue(key, max_message_size=8192)

        def dies_early() -> int:
            queue.send(LIST_REQUEST.pack(os.getpid()), True, LIST)
            wait_for(queue, 1)  # the reply, unread
            return 0

        def comes_later() -> int:
            try:
                queue.receive(False, os.getpid())
                return 1
            except sysv_ipc.BusyError:
                pass
            queue.send(LIST_REQUEST.pack(os.getpid()), True, LIST)
            wait_for(queue, 1)
            return int(len(queue.receive(False, os.getpid())[0]) != LIST_REPLY.size)

        for _ in range(TIMES):
            first = in_a_child(dies_early)
            wait_for(queue, 0)
            try:
                with open("/proc/sys/kernel/ns_last_pid", "w") as last:
                    last.write(str(first - 1))
            except OSError:
                return NOT_HERE
            if in_a_child(comes_later) != first:
                return NOT_HERE
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
