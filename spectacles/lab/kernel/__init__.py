"""Looks into the kernel: what lies in its objects and what every task waits for, read and never touched.

    from spectacles.lab.kernel.looker import look

    picture = look(pids=[1234])                # a process and its descendants, and whoever uses the same objects
    picture = look(directory="/tmp/guichet")   # the server of a run directory, its objects, its clients
    picture = look(keys=[0x2A008902, "/semaphore"])
    picture.findings                           # cycles of waiting, messages to the dead, locks of the dead
    picture.to_json()

For programs in any language. A Looker takes one look after another, and knows since when a task waits. The files, from
below: `proc` (/proc, read without fear), `calls` (system calls by name, and what their arguments mean), `sysv`,
`borrow`, `sockets`, `futexes`, `symbols` (one kind of object each), `contents` (bytes that are the service's), `roll`
(who is there, what each thread does), `objects` (what they use), `model` (the picture), `findings` (who waits for
whom), `looker`, and `inside`, for programs in namespaces of their own. What people read about all this is in `words`.

Beside them, for measuring: `processes` (threads, memory, CPU time and context switches of a process) and `machine` (the
processor, the kernel, the file system).

A look opens no FIFO, takes no message, attaches no memory, and changes no time of access except of files that belong to
somebody else. Processes that vanish meanwhile are left out; what the kernel refuses is said, and the rest still shown.

Leans on nothing.
"""

__all__ = ["calls", "contents", "inside", "looker", "machine", "model", "proc", "processes", "words"]
