"""The first process of a world: makes it, starts programs in it, reaps them, counts what they leave, ends with it.

Run by world.World as a process of its own, with one descriptor: a socket that keeps the bounds of messages, on which
it gets orders and answers, as JSON. When the socket closes, because whoever started it is no more, it ends, and where
it is process 1 of a PID namespace the kernel ends everything with it.

    World ── Popen ──▶ first.py ── unshare ── fork ──▶ process 1 of the world ── fork, exec ──▶ program
      ╰───────────────────────── orders and answers ─────────╯                                    │
      ╰──────────── its terminal, its listener, or why it could not start ────────────────────────╯

Everything that it needs is imported at its top: the library's files may be out of reach once the world is made. It
needs no package, and is started with -I -S, which halves the time.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import json
import os
import pty
import resource
import select
import signal
import socket
import stat
import struct
import sys
import termios
import time
from typing import Any, NoReturn

from spectacles.lab.programs import kernel, leftovers

BUSY_CHECK = 0.1  # seconds between two looks at memory, at the disk and at the clock
BIGGEST = 200_000  # bytes of one order
STOPPING = 3.0  # seconds that all processes get to be dead after SIGKILL
FREEING = (
    9.0  # seconds that the numbers of dead threads get to be free again: they die as slowly as the machine is busy
)
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
PAGE = os.sysconf("SC_PAGE_SIZE")
MARKER = "SPECTACLES_WORLD"  # in the environment of all that runs in a world


class Refused(Exception):
    """No world can be made here: the step, and its error number."""

    def __init__(self, step: str, number: int) -> None:
        super().__init__(step, number)
        self.step = step
        self.number = number


def say(control: socket.socket, what: dict[str, Any], *descriptors: int) -> None:
    """Send one answer."""
    if descriptors:
        socket.send_fds(control, [json.dumps(what).encode()], list(descriptors))
    else:
        control.send(json.dumps(what).encode())


def hear(control: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Return the next order and its descriptors; {} when there is nobody left to give one. Blocks."""
    data, descriptors = kernel.receive(control, BIGGEST)
    return (json.loads(data), descriptors) if data else ({}, descriptors)


# Making the world


def enter_private(control: socket.socket, setup: dict[str, Any]) -> list[tuple[str, int]]:
    """Leave all namespaces for new ones and become their process 1, as the user that the world is for.

    Returns in process 1 only: descriptors of the visible paths, opened while we still were who we were, as that user
    may not get there by himself (a checkout below /root). World writes the map of users in between, as only somebody
    outside may. Raises Refused.
    """
    try:
        kernel.unshare(
            kernel.CLONE_NEWUSER | kernel.CLONE_NEWIPC | kernel.CLONE_NEWPID | kernel.CLONE_NEWNS | kernel.CLONE_NEWNET
        )
    except OSError as error:
        raise Refused("unshare", error.errno or 0) from None
    say(control, {"is": "unshared"})
    if hear(control)[0].get("do") != "go":
        sys.exit(0)
    step = "visible"
    try:
        seen = [(path, os.open(path, os.O_PATH)) for path in setup["visible"]]
        step = "fork"
        if setup["drop"]:
            os.setgroups([])
        os.setresgid(setup["gid"], setup["gid"], setup["gid"])
        os.setresuid(setup["uid"], setup["uid"], setup["uid"])
        child = os.fork()
    except OSError as error:
        raise Refused(step, error.errno or 0) from None
    if child:
        control.close()
        os.waitpid(child, 0)
        os._exit(0)
    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)  # not to be traced by what runs in here
    return seen


def furnish(setup: dict[str, Any], seen: list[tuple[str, int]]) -> str:
    """Mount what the world has of its own, read-only what it shares, and return its folder. Raises Refused."""
    step = "mount"
    try:
        kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)
        step = "mount_setattr"
        kernel.read_only("/")
        step = "mount"
        devices = [(name, os.open(f"/dev/{name}", os.O_PATH)) for name in DEVICES if os.path.exists(f"/dev/{name}")]

        quiet = kernel.MS_NOSUID | kernel.MS_NODEV
        # One file system for all that can be written, so that one number bounds it.
        kernel.mount("tmpfs", "/tmp", "tmpfs", quiet, f"mode=755,size={setup['disk']},nr_inodes={setup['files']}")
        places = {}
        for name in ("tmp", "shm"):
            os.mkdir(f"/tmp/{name}")
            os.chmod(f"/tmp/{name}", 0o1777)
            places[name] = os.open(f"/tmp/{name}", os.O_PATH)
        kernel.mount(f"/proc/self/fd/{places['tmp']}", "/tmp", "", kernel.MS_BIND)
        for path, descriptor in seen:
            _show(path, descriptor)

        kernel.mount("tmpfs", "/dev", "tmpfs", kernel.MS_NOSUID, "mode=755,size=64k")
        for name, descriptor in devices:
            os.close(os.open(f"/dev/{name}", os.O_CREAT | os.O_RDONLY, 0o600))
            kernel.mount(f"/proc/self/fd/{descriptor}", f"/dev/{name}", "", kernel.MS_BIND)
        for name, target in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
            os.symlink(f"/proc/self/fd{target}", f"/dev/{name}")
        for name in ("pts", "shm", "mqueue"):
            os.mkdir(f"/dev/{name}")
        os.symlink("pts/ptmx", "/dev/ptmx")
        noexec = kernel.MS_NOSUID | kernel.MS_NOEXEC
        kernel.mount("devpts", "/dev/pts", "devpts", noexec, "newinstance,ptmxmode=0666,mode=620")
        kernel.mount(f"/proc/self/fd/{places['shm']}", "/dev/shm", "", kernel.MS_BIND)
        try:
            kernel.mount("mqueue", "/dev/mqueue", "mqueue", noexec | kernel.MS_NODEV)
        except OSError as error:
            if error.errno != errno.ENODEV:  # a kernel built without
                raise
        step = "proc"
        kernel.mount("proc", "/proc", "proc", noexec | kernel.MS_NODEV)
        step = "loopback"
        kernel.few_connections()
        kernel.loopback_up()
        step = "folder"
        folder = f"/tmp/{setup['name']}"
        while os.path.lexists(folder):  # something visible has that name
            folder += "_"
        os.mkdir(folder, 0o755)
        os.chdir(folder)
    except OSError as error:
        raise Refused(step, error.errno or 0) from None
    for descriptor in [*places.values(), *(pair[1] for pair in seen + devices)]:
        os.close(descriptor)
    return folder


def _show(path: str, descriptor: int) -> None:
    """Mount what `descriptor` stands for at its old place, if it is hidden: below /tmp, or behind a closed folder."""
    there = os.stat(descriptor)
    try:
        found = os.stat(path)
        if (found.st_dev, found.st_ino) == (there.st_dev, there.st_ino):
            return
    except OSError:
        pass
    parts = path.strip("/").split("/")
    for length in range(1, len(parts)):
        parent = "/" + "/".join(parts[:length])
        if os.path.isdir(parent) and not os.access(parent, os.X_OK):
            kernel.mount("tmpfs", parent, "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=755,size=64k")
    if stat.S_ISDIR(there.st_mode):
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY, 0o600))
    kernel.mount(f"/proc/self/fd/{descriptor}", path, "", kernel.MS_BIND | kernel.MS_REC)


# Starting a program


def start(order: dict[str, Any], cord: int, setup: dict[str, Any]) -> NoReturn:
    """In a new child: open a terminal, take on the limits, drop all powers, and become the program. Never returns.

    What it has to say goes over `cord`: ["terminal"] with the descriptors of the terminal's master side and of the
    process itself, ["listener"] with that of the filter, ["failed", step, errno]; its closing means that all is well.
    """
    step = "terminal"
    try:
        os.setsid()
        master, slave = pty.openpty()
        settings = termios.tcgetattr(slave)
        if not order["echo"]:
            settings[3] &= ~termios.ECHO
        termios.tcsetattr(slave, termios.TCSANOW, settings)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", *order["size"], 0, 0))
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        kernel.send_past_a_filter(cord, b'["terminal"]', (master, os.pidfd_open(os.getpid())))
        for number in range(3):
            os.dup2(slave, number)
        for number in range(1, signal.NSIG):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                with contextlib.suppress(OSError):  # those that the C library keeps for itself
                    signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.umask(0o022)
        step = "folder"
        os.chdir(order["cwd"])
        step = "limits"
        for name, value in order["limits"].items():
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            most = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (most, most))
        step = "powers"
        if not setup["private"] and setup["drop"]:
            os.setgroups([])
            os.setresgid(setup["gid"], setup["gid"], setup["gid"])
            os.setresuid(setup["uid"], setup["uid"], setup["uid"])
        kernel.drop_powers()
        if not setup["private"] and kernel.KNOWN:
            kernel.refuse_kill_all()
        kernel.prctl(kernel.PR_SET_DUMPABLE, 1)
        step = "exec"
        program = find(order["command"][0], order["env"].get("PATH", ""))
        step = "filter"
        if order["filter"]:
            listener = kernel.install_filter(bytes.fromhex(order["filter"]), listener=True)
            kernel.send_past_a_filter(cord, b'["listener"]', (listener,))
            os.close(listener)
        step = "exec"
        os.execve(program, order["command"], order["env"])
    except OSError as error:
        kernel.send_past_a_filter(cord, json.dumps(["failed", step, error.errno or 0]).encode())
    except BaseException:
        sys.excepthook(*sys.exc_info())  # on the program's terminal: ours to mend
    finally:
        os._exit(127)


def find(name: str, path: str) -> str:
    """Return the program that a command's first word means, as execvp(3); one call, as a filter may hold each.

    Raises FileNotFoundError.
    """
    if "/" in name:
        return name
    for folder in path.split(":"):
        found = os.path.join(folder, name)
        if os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)


def fork_as(wanted: int) -> int:
    """Fork; the child gets the PID `wanted`, or any if that is 0. Raises OSError: EAGAIN, or EEXIST if it is taken."""
    if not wanted:
        return os.fork()
    try:
        with open("/proc/sys/kernel/pid_max", "r+") as most:
            if wanted >= int(most.read()):
                most.seek(0)
                most.write("4194304")
    except OSError:
        pass  # the same for all namespaces before Linux 6.14: then the kernel says below whether it will do
    for _ in range(20):  # somebody else in the world may fork in between
        with open("/proc/sys/kernel/ns_last_pid", "w") as last:
            last.write(str(wanted - 1))
        child = os.fork()
        if child == 0 and os.getpid() == wanted:
            return 0
        if child == 0:
            os._exit(0)
        if child == wanted:
            return child
        os.waitpid(child, 0)
        if os.path.exists(f"/proc/{wanted}"):
            break
    raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))


# Looking after it


class Keeper:
    """Serves orders until the socket closes."""

    def __init__(self, control: socket.socket, setup: dict[str, Any], folder: str) -> None:
        self._control = control
        self._setup = setup
        self._folder = folder
        self._started: set[int] = set()
        self._listened_to = True
        self._ended = False  # and counted
        self._files: dict[str, tuple[int, int, int, int]] = {}
        self._lent: set[str] = set()
        self._stay: set[str] = set()  # what was in /tmp then: the folder, what is lent, mounts
        self._kept: dict[str, tuple[tuple[int, int, int, int], Any]] = {}  # status and content of what is remembered
        self._failed: list[Any] = []  # the first file that could not be copied, and why
        self._known: set[int] = set()  # without a PID namespace: PIDs ever seen below us
        self._mapped: set[int] = set()  # and what of /dev/shm they had in their memory
        self._before = [] if setup["private"] else leftovers.system_v() + leftovers.posix()
        self._deadline = time.monotonic() + setup["seconds"] if setup["seconds"] else None
        self._next_check = 0.0
        self._next_walk = 0.0

    def serve(self) -> None:
        """Blocks until the end."""
        woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self._control, select.POLLIN)
        poll.register(woken, select.POLLIN)
        while True:
            ready = dict(poll.poll(BUSY_CHECK * 1000 if self._started or self._deadline else None))
            if woken in ready:
                os.read(woken, 512)
            self._reap()
            if self._control.fileno() in ready:
                order, descriptors = hear(self._control)
                if not order:
                    return
                getattr(self, f"_do_{order['do']}")(order, descriptors)
            if time.monotonic() >= self._next_check:
                self._check()
                self._next_check = time.monotonic() + BUSY_CHECK

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if pid in self._started:
                self._started.discard(pid)
                if self._listened_to:
                    say(self._control, {"is": "ended", "pid": pid, "status": os.waitstatus_to_exitcode(status)})

    def _do_put(self, order: dict[str, Any], descriptors: list[int]) -> None:
        """Make a file, a directory or a link of the folder's copy: what our caller can read, and we perhaps cannot."""
        path = os.path.normpath(os.path.join(self._folder, order["name"]))
        if not path.startswith(f"{self._folder}/"):
            if path in self._lent:
                for descriptor in descriptors:
                    os.close(descriptor)
                return
            self._lent.add(path)  # beside the folder: no program's doing
        try:
            if "link" in order:
                os.symlink(order["link"], path)
            elif descriptors:
                with open(descriptors[0], "rb", closefd=False) as source, open(path, "xb") as target:
                    while os.sendfile(target.fileno(), source.fileno(), None, 1 << 24):
                        pass
            else:
                os.mkdir(path)
            if not self._setup["private"] and self._setup["drop"]:
                os.chown(path, self._setup["uid"], self._setup["gid"], follow_symlinks=False)
            if "link" not in order:
                os.chmod(path, order["mode"])
                os.utime(path, ns=(order["time"], order["time"]))
        except OSError as error:
            self._failed = self._failed or [order["name"], error.errno or 0]
        for descriptor in descriptors:
            os.close(descriptor)

    def _do_copied(self, order: dict[str, Any], _: list[int]) -> None:
        """The folder is filled: what differs from now on is the programs' doing."""
        self._files = leftovers.tree(self._folder)
        self._do_placed(order, _)

    def _do_placed(self, order: dict[str, Any], _: list[int]) -> None:
        say(self._control, {"is": "placed", "failed": self._failed})
        self._failed = []

    def _do_keys(self, order: dict[str, Any], _: list[int]) -> None:
        """Tell the keys of the System V objects, by kind and number."""
        keys = [(kind, row["id"], row["key"] & 0xFFFF_FFFF) for kind, _, _, row in leftovers.system_v()]
        say(self._control, {"is": "keys", "keys": keys[:5000]})

    def _do_start(self, order: dict[str, Any], descriptors: list[int]) -> None:
        try:
            pid = fork_as(order["pid"])
        except OSError as error:
            say(self._control, {"is": "started", "pid": 0, "errno": error.errno})
            for descriptor in descriptors:
                os.close(descriptor)
            return
        if not pid:
            for descriptor in descriptors[1:]:  # for the program itself
                os.set_inheritable(descriptor, True)
                order["env"][order["told"]] = str(descriptor)
            start(order, descriptors[0], self._setup)
        for descriptor in descriptors:
            os.close(descriptor)
        self._started.add(pid)
        say(self._control, {"is": "started", "pid": pid, "errno": 0})

    def _do_remember(self, order: dict[str, Any], _: list[int]) -> None:
        """Keep what is in the folder now, for _do_reset()."""
        self._kept = {}
        self._stay = {os.path.join("/tmp", name) for name in os.listdir("/tmp")}
        for name, status in leftovers.tree(self._folder).items():
            path = os.path.join(self._folder, name)
            content: bytes | str = b""
            with contextlib.suppress(OSError):
                if stat.S_ISREG(status[0]):
                    with open(path, "rb") as file:
                        content = file.read()
                elif stat.S_ISLNK(status[0]):
                    content = os.readlink(path)
            self._kept[name] = (status, content)
        say(self._control, {"is": "remembered"})

    def _do_reset(self, order: dict[str, Any], _: list[int]) -> None:
        """Make the world as it was: nobody in it but `keep`, nothing in the kernel, the folder as remembered."""
        deadline = time.monotonic() + STOPPING
        while time.monotonic() < deadline:
            left = [pid for pid in below(os.getpid()) if pid not in order["keep"]]  # the dead too: they have a number
            if not left:
                break
            for pid in left:
                _signal(pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.0002)
        free = True
        if self._setup["private"]:
            deadline = time.monotonic() + FREEING
            while not (free := _are_free(order["pid"], order["numbers"])) and time.monotonic() < deadline:
                time.sleep(0.0005)
            leftovers.clear(self._stay | self._lent)
            for name, value in (
                ("ns_last_pid", order["pid"]),
                *((f"{kind}_next_id", 0) for kind in ("msg", "sem", "shm")),
            ):
                with contextlib.suppress(OSError), open(f"/proc/sys/kernel/{name}", "w") as file:
                    file.write(str(value))
        else:
            self._note()
            self._remove(self._objects())
        self._restore()
        say(self._control, {"is": "fresh", "left": len(left), "free": free})

    def _restore(self) -> None:
        now = leftovers.tree(self._folder)
        for name in sorted(now, reverse=True):  # what is in a directory before the directory
            if now[name] != self._kept.get(name, (None,))[0] and not (
                name in self._kept and stat.S_ISDIR(now[name][0]) and stat.S_ISDIR(self._kept[name][0][0])
            ):
                leftovers.remove_one(os.path.join(self._folder, name))
        for name in sorted(self._kept):
            status, content = self._kept[name]
            path = os.path.join(self._folder, name)
            if now.get(name) == status:
                continue
            with contextlib.suppress(OSError):
                if stat.S_ISDIR(status[0]):
                    if name not in now:
                        os.mkdir(path)
                elif stat.S_ISLNK(status[0]):
                    os.symlink(content, path)
                elif stat.S_ISREG(status[0]):
                    with open(path, "xb") as file:
                        file.write(content)
                elif stat.S_ISFIFO(status[0]):
                    os.mkfifo(path)
                else:
                    continue
                if not stat.S_ISLNK(status[0]):
                    os.chmod(path, stat.S_IMODE(status[0]))
                    os.utime(path, ns=(status[2], status[2]))
                found = os.lstat(path)
                self._kept[name] = ((found.st_mode, found.st_size, found.st_mtime_ns, found.st_ino), content)

    def _do_kill(self, order: dict[str, Any], _: list[int]) -> None:
        """Send a signal to the processes of the program's session, or to all."""
        for pid, session in self._processes().items():
            if order["session"] in (0, session):
                _signal(pid, order["signal"])

    def _do_count(self, order: dict[str, Any], _: list[int]) -> None:
        kept, counts = leftovers.shortened(self._objects())
        say(self._control, {"is": "counted", "entries": kept, "counts": counts})

    def _do_end(self, order: dict[str, Any], _: list[int]) -> None:
        """Kill everything, count what is left, and say so; without namespaces, remove what is ours."""
        if not self._setup["private"]:
            self._note()
        alive = len(self._processes())
        done = self.kill_all()
        entries = self._objects()
        removed = [] if self._setup["private"] else self._remove(entries)
        kept, counts = leftovers.shortened(entries)
        answer = {"is": "end", "entries": kept, "counts": counts, "alive": alive, "dead": done, "removed": removed}
        self._ended = True
        say(self._control, answer)

    # Processes

    def _processes(self) -> dict[int, int]:
        """Return PID and session of all processes of the world but this one."""
        found = {}
        for pid in _all_pids() if self._setup["private"] else below(os.getpid()):
            if pid != os.getpid():
                fields = _stat(pid)
                if fields and fields[0] not in "ZX":
                    found[pid] = int(fields[3])
        return found

    def leave(self) -> None:
        """End everything; whoever started us is done, or no more: without namespaces we then remove his folder."""
        self._listened_to = False
        self.kill_all()
        if not self._setup["private"] and not self._ended:
            self._remove(self._objects())
            leftovers.remove(os.path.dirname(self._folder))

    def kill_all(self) -> bool:
        """End every process of the world, and reap. Return whether all are gone within STOPPING seconds."""
        deadline = time.monotonic() + STOPPING
        while time.monotonic() < deadline:
            if self._setup["private"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(-1, signal.SIGKILL)  # all but ourselves, at one blow
            else:
                self._freeze()
                for pid in self._processes():
                    _signal(pid, signal.SIGKILL)
            self._reap()
            if not self._processes() and not below(os.getpid()):
                return True
            time.sleep(0.002)
        return False

    def _freeze(self) -> None:
        """Stop all, until a look finds nobody new: then none can have a child that we do not see."""
        frozen: set[int] = set()
        for _ in range(100):
            new = set(self._processes()) - frozen
            if not new:
                return
            for pid in new:
                with contextlib.suppress(OSError):
                    resource.prlimit(pid, resource.RLIMIT_NPROC, (0, 0))
                _signal(pid, signal.SIGSTOP)
            frozen |= new

    # Limits that the kernel does not keep for one world

    def _check(self) -> None:
        pids = list(self._processes())
        if not self._setup["private"]:
            self._note()
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._deadline = None
            self._over("seconds", pids)
        if self._setup["memory"] and pids:
            sizes = {pid: _own_memory(pid) for pid in pids}
            shared = sum(row.get("rss", 0) for kind, _, _, row in leftovers.system_v() if kind == leftovers.MEMORY)
            if sum(sizes.values()) + (shared if self._setup["private"] else 0) > self._setup["memory"]:
                self._over("memory", pids)
        if not self._setup["private"] and time.monotonic() >= self._next_walk:
            self._next_walk = time.monotonic() + 5 * BUSY_CHECK
            if sum(entry[1] for entry in leftovers.tree(self._folder).values()) > self._setup["disk"]:
                self._over("disk", pids)

    def _over(self, what: str, pids: list[int]) -> None:
        say(self._control, {"is": "over", "what": what})
        for pid in pids:
            _signal(pid, signal.SIGKILL)

    # Objects

    def _objects(self) -> list[leftovers.Entry]:
        found = leftovers.system_v() + leftovers.posix()
        if not self._setup["private"]:
            old = {(kind, row.get("id", row.get("inode"))) for kind, _, _, row in self._before}
            found = [entry for entry in found if (entry[0], entry[3].get("id", entry[3].get("inode"))) not in old]
            found = [entry for entry in found if entry[3].get("cuid", entry[3].get("uid")) == self._setup["uid"]]
        found += leftovers.files(self._folder, self._files)
        if self._setup["private"]:
            elsewhere = leftovers.files("/tmp", {}, "/tmp/")
            found += [
                entry
                for entry in elsewhere
                if not entry[1].startswith(f"{self._folder}/") and entry[1] not in self._lent
            ]
        return found

    def _note(self) -> None:
        """Without namespaces: write down who is in our tree, and what of /dev/shm they use, for _remove()."""
        pids = below(os.getpid())
        self._known.update(pids)
        for pid in pids:
            try:
                with open(f"/proc/{pid}/maps") as maps:
                    for line in maps:
                        if " /dev/shm/" in line:  # by inode: a semaphore is made under another name
                            self._mapped.add(int(line.split()[4]))
            except OSError:
                pass

    def _remove(self, entries: list[leftovers.Entry]) -> list[str]:
        """Remove the objects that are new and that our tree is known to have used, and return their names."""
        removed = []
        libc = ctypes.CDLL(None, use_errno=True)
        for kind, name, _, row in entries:
            if kind == leftovers.QUEUE:
                last = {row["lspid"], row["lrpid"]} - {0}
                ours = bool(last) and last <= self._known
                done = ours and libc.msgctl(row["id"], 0, None) == 0
            elif kind == leftovers.MEMORY:
                done = row["cpid"] in self._known and libc.shmctl(row["id"], 0, None) == 0
            elif kind == leftovers.SEMAPHORES:
                pids = {libc.semctl(row["id"], number, 11) for number in range(row["nsems"])} - {0, -1}  # GETPID
                done = bool(pids) and pids <= self._known and libc.semctl(row["id"], 0, 0) == 0
            elif kind in (leftovers.POSIX_MEMORY, leftovers.POSIX_SEMAPHORE):
                path = "/dev/shm/" + ("sem." if kind == leftovers.POSIX_SEMAPHORE else "") + name[1:]
                done = row["inode"] in self._mapped
                try:
                    if done:
                        os.unlink(path)
                except OSError:
                    done = False
            else:
                continue
            if done:
                removed.append(f"{kind} {name}")
        return removed


def _are_free(last: int, count: int) -> bool:
    """Say whether the next `count` processes after number `last` would be numbered without a gap.

    The last thread of a process tells its end, and gives its number back a moment later: no file says when.
    """
    if not count:
        return True
    try:
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(last))
    except OSError:
        return True  # they are not ours to choose
    for number in range(last + 1, last + 1 + count):
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
        if child != number:
            return False
    return True


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def below(top: int) -> list[int]:
    """Return all descendants of `top`, the dead that nobody has waited for included."""
    found: list[int] = []
    todo = [top]
    while todo:
        pid = todo.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as children:
                    born = [int(word) for word in children.read().split()]
                found += born
                todo += born
        except OSError:
            pass
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields of proc(5) stat from the state on: state, parent, group, session..."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []


def _own_memory(pid: int) -> int:
    """Return the bytes that a process has for itself: resident, and not of a file nor shared."""
    try:
        with open(f"/proc/{pid}/statm") as file:
            _, resident, shared = file.read().split()[:3]
    except (OSError, ValueError):
        return 0
    return (int(resident) - int(shared)) * PAGE


def main() -> None:
    """Make the world that the first order describes, and look after it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started us, who ends us
    control = socket.socket(fileno=int(sys.argv[1]))
    os.set_inheritable(control.fileno(), False)
    setup, _ = hear(control)
    if not setup:
        return  # whoever started us has changed his mind
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")  # what runs in here goes first when memory is short
    try:
        if setup["private"]:
            folder = furnish(setup, enter_private(control, setup))
            own = os.pidfd_open(1)
        else:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
            folder = setup["folder"]
            os.chdir(folder)
            own = os.pidfd_open(os.getpid())
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        say(control, {"is": "ready", "folder": folder}, place, own)
        os.close(place)
        os.close(own)
    except Refused as error:
        say(control, {"is": "refused", "step": error.step, "errno": error.number})
        return
    except ConnectionError:
        return
    keeper = Keeper(control, setup, folder)
    try:
        keeper.serve()
    except ConnectionError:
        pass  # whoever started us is no more
    finally:
        keeper.leave()


if __name__ == "__main__":
    main()
