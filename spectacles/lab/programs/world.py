"""A world of its own for a program that nobody vouches for: it runs as if alone, and leaves nothing behind.

    with World("dossier", limits=Limits(processes=64)) as world:
        server = world.start(["./serveur"])
        client = world.start(["./client"])
        client.type("1")
        client.wait(5)
        print(client.output())
    print(world.left.objects)

It protects from accidents, not from attackers: see docs/worlds-and-gate.md. Where the machine allows no private
world, `world.refused` says why in one line, and the same calls work with less: one world at a time.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pwd
import select
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spectacles.common.errors import SpectaclesError, reason
from spectacles.lab.programs import first, kernel, leftovers, refusal
from spectacles.lab.programs.transcript import Transcript

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

ANSWER = 15.0  # seconds that the first process gets for an answer
ENDING = 8.0  # and to end everything and count
LAST_WORDS = 0.1  # seconds for what a program has printed to be read, once it has ended
LOCK_WAIT = 600.0  # seconds to wait for another world's end, where only one can be at a time
ROOT = Path(__file__).resolve().parents[3]  # the folder that holds this package: on the path of the first process
MEBI = 1024 * 1024
_CODE = "import sys; sys.path.insert(0, sys.argv.pop(1)); from spectacles.lab.programs import first; first.main()"


class WorldError(SpectaclesError):
    """A world, or a program in it, could not be started, or did not do in time what it should."""


@dataclass(frozen=True)
class Limits:
    """What one world may use. None: no limit but the machine's."""

    processes: int = 256  # processes and threads
    memory: int | None = 1024 * MEBI  # bytes, of all its processes; looked at ten times a second
    disk: int = 64 * MEBI  # bytes that can be written, and the largest file: the folder, /tmp and /dev/shm together
    files: int = 50_000  # files and directories in these (not kept without a private world)
    descriptors: int = 1024  # open files of one process
    cpu: int | None = 60  # seconds of processor time of one process, then SIGXCPU
    seconds: float | None = None  # from its making on; then all its processes are killed


@dataclass(frozen=True)
class Thing:
    """Something that a program has left: see leftovers.KINDS; size in bytes, or semaphores of a set."""

    kind: str
    name: str
    size: int
    detail: Mapping[str, int] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Left:
    """What there was at the end of a world, once its processes were dead."""

    objects: tuple[Thing, ...]  # in the kernel, and new or changed files: the first some hundreds
    counts: Mapping[str, int]  # all of them, by kind
    alive: int  # processes that had to be ended
    removed: tuple[str, ...] = ()  # without a private world: what was removed, as far as it was surely the programs'
    complete: bool = True  # False: the first process was killed from outside or too late; nothing was counted


class Program:
    """One command in a world, on a terminal of its own that is always read. Made by World.start()."""

    def __init__(self, world: World, command: Sequence[str], cord: socket.socket) -> None:
        self.command = tuple(command)
        self.inside = 0  # its PID in the world
        self.pid = 0  # and outside; the same without a private world
        self.listener: int | None = None  # the descriptor of its filter's listener; whoever takes it, closes it
        self.code: int | None = None  # once it has ended: exit code, or minus the signal
        self._world = world
        self._cord: socket.socket | None = cord
        self._terminal: int | None = None
        self._pidfd: int | None = None
        self._transcript = Transcript()
        self._failed: tuple[str, int] | None = None

    # What it prints and reads

    def output(self) -> str:
        """Return what it has printed until now, as text; what is too much is left out of the middle, and counted."""
        with self._world._changed:
            return self._transcript.text()

    def transcript(self) -> tuple[bytes, int, bytes]:
        """Return the first bytes that it printed, how many are not kept, and the last."""
        with self._world._changed:
            return self._transcript.parts()

    @property
    def printed(self) -> int:
        """Bytes printed until now."""
        return self._transcript.total

    def type(self, line: str) -> None:
        """Type a line at its terminal, with the Enter key. Raises WorldError when nobody has that terminal open."""
        self.send(line.encode() + b"\n")

    def send(self, data: bytes) -> None:
        """Send bytes to its terminal: b"\\x03" is Ctrl-C, b"\\x04" the end of the input. Raises WorldError.

        Blocks for at most a second, when the program reads nothing and the terminal is full (4096 bytes).
        """
        deadline = time.monotonic() + 1.0
        while data:
            with self._world._changed:
                if self._terminal is None:
                    raise WorldError(f"{self.command[0]} : son terminal est fermé")
                try:
                    data = data[os.write(self._terminal, data) :]
                except BlockingIOError:
                    pass
                except OSError as error:
                    raise WorldError(f"{self.command[0]} : {reason(error)}") from None
            if data:
                if time.monotonic() > deadline:
                    raise WorldError(f"{self.command[0]} : son terminal est plein, il ne lit rien")
                time.sleep(0.01)

    def hang_up(self) -> None:
        """Close its terminal as a window is closed: SIGHUP to whoever has it, and nothing to read any more."""
        with self._world._changed:
            self._close_terminal()

    def wait_output(self, text: str, timeout: float) -> str:
        """Return the output once `text` is in it. Raises WorldError after `timeout` seconds or at its end."""
        deadline = time.monotonic() + timeout
        with self._world._changed:
            while text not in (shown := self._transcript.text()):
                left = deadline - time.monotonic()
                if left <= 0 or (self.code is not None and self._terminal is None):
                    raise WorldError(f"{self.command[0]} : « {text} » n'est pas venu\n{shown}")
                self._world._changed.wait(left)
            return shown

    # Its life

    def wait(self, timeout: float) -> int:
        """Return its exit code, or minus the signal that ended it. Raises WorldError after `timeout` seconds.

        When it returns, everything that it printed has been read.
        """
        deadline = time.monotonic() + timeout
        with self._world._changed:
            while self.code is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise WorldError(f"{self.command[0]} : encore là après {timeout:g} s")
                if self._world._over:
                    raise WorldError(f"{self.command[0]} : son monde a fini avant lui")
                self._world._changed.wait(left)
            # What was printed last reaches our side of the terminal a moment later; then that side says it is over,
            # unless somebody else still has the terminal.
            patience = time.monotonic() + LAST_WORDS
            while self._read_terminal() and time.monotonic() < patience:
                self._world._changed.wait(0.001)
            return self.code

    def signal(self, number: int) -> None:
        """Send a signal to it and to what it has forked, as far as that stayed in its session. Gone: nothing."""
        if self.code is None:
            self._world._ask({"do": "kill", "signal": int(number), "session": self.inside})

    def signal_alone(self, number: int) -> None:
        """Send a signal to it alone. Gone: nothing."""
        with self._world._changed, contextlib.suppress(ProcessLookupError):
            if self._pidfd is not None:
                signal.pidfd_send_signal(self._pidfd, number)

    def tree(self) -> dict[int, int]:
        """Return the PIDs of it and of what came from it, outside -> inside; orphans are found in World.tree()."""
        return {pid: inside for pid, inside in _tree(self.pid).items() if inside} if self.code is None else {}

    @property
    def failed(self) -> str:
        """Why it could not be started, "" if it was, or is not yet known."""
        if self._failed is None:
            return ""
        step, number = self._failed
        where = "" if step == "exec" else f" (étape « {step} »)"
        return f"{self.command[0]} : {reason(OSError(number, os.strerror(number)))}{where}"

    # Called by the world's thread, with its lock held

    def _hear(self, cord: socket.socket) -> bool:
        """Take one message of the process that becomes the program. Return False when that was the last."""
        try:
            data, descriptors = kernel.receive(cord, 4096, wait=False)
        except BlockingIOError:
            return True
        except OSError:
            data, descriptors = b"", []
        if not data:
            cord.close()
            self._cord = None
            return False
        kind, *rest = json.loads(data)
        if kind == "terminal":
            self._terminal, self._pidfd = descriptors
            os.set_blocking(self._terminal, False)
            self.pid = pid_of(self._pidfd)
        elif kind == "listener":
            self.listener = descriptors[0]
        elif kind == "failed":
            self._failed = (rest[0], rest[1])
        return True

    def _read_terminal(self) -> bool:
        """Take in what can be read at once, at most a mebibyte. Return False when nobody has it open any more."""
        for _ in range(16):
            if self._terminal is None:
                return False
            try:
                data = os.read(self._terminal, 65536)
            except BlockingIOError:
                return True
            except OSError:  # EIO: the last who had it open has closed it
                return False
            self._transcript.add(data)
        return True

    def _close_terminal(self) -> None:
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None

    def _release(self) -> None:
        self._close_terminal()
        for descriptor in (self._pidfd, self.listener):
            if descriptor is not None:
                os.close(descriptor)
        self._pidfd = self.listener = None
        if self._cord is not None:
            self._cord.close()


class World:
    """Where programs run: a context manager. See the top of this file, and docs/worlds-and-gate.md.

    folder: copied afresh; its copy is the working directory (None: an empty one). FIFOs, sockets and devices in it
    are not copied. visible: paths that programs may read at their place though they lie under /tmp, which in a private
    world is its own; Python and this package are always. env: added to the clean environment of all programs.
    private: None takes a private world where the machine allows it, True insists, False does without.

    For root, programs run as the user who called sudo, else as `nobody`. Safe between threads.
    """

    def __init__(
        self,
        folder: str | Path | None = None,
        *,
        limits: Limits | None = None,
        visible: Sequence[str | Path] = (),
        env: Mapping[str, str] | None = None,
        private: bool | None = None,
    ) -> None:
        self.refused = ""  # why it is not private, one line in French
        self.private = False
        self.init = 0  # the PID, outside, of its first process
        self.inside = ""  # its folder, as its programs see it
        self.folder = Path()  # and as we do; usable until the end
        self.left = Left((), {}, 0, complete=False)  # known after the end
        self.over: tuple[str, ...] = ()  # the limits that it ran into: "memory", "seconds", "disk"
        self._source = None if folder is None else Path(folder)
        self._limits = limits or Limits()
        self.shared = [
            str(path) for path in dict.fromkeys((*_own_places(), *(Path(path).resolve() for path in visible)))
        ]
        self._env = dict(env or {})
        self._wanted = private
        self._changed = threading.Condition()
        self._asking = threading.Lock()
        self._answers: list[dict[str, Any]] = []
        self._programs: list[Program] = []
        self._ended: dict[int, int] = {}
        self._over = False
        self._person = _person()
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> World:
        """Make it; blocks for some tens of milliseconds. Raises WorldError, OSError."""
        with contextlib.ExitStack() as undo:
            self._closing = undo
            if self._wanted is not False:
                self._begin(private=True)
                if self.refused and self._wanted:
                    raise WorldError(self.refused)
            if not self.private:
                self._begin(private=False)
            self._fill()
            self._closing = undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything in it, count what is left, remove it. Blocks for ENDING + a few seconds at the very most."""
        self._closing.close()

    # Programs

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = ".",
        pid: int | None = None,
        echo: bool = False,
        size: tuple[int, int] = (24, 80),
        seccomp: bytes = b"",
        keep: tuple[str, int] | None = None,
    ) -> Program:
        """Start a command on a terminal of its own and return it once it is that program, or has a listener.

        command: looked for in the copied folder and on PATH. env: added. cwd: relative to the folder. pid: the one
        that it shall have inside (private worlds only). echo: whether the terminal shows what is typed. size: rows and
        columns. seccomp: a filter, see kernel.install_filter(): then this returns before exec, and `failed` says
        later whether it came to that. keep: a descriptor that the program inherits, and the variable of its environment
        that tells its number. Raises WorldError.
        """
        if pid is not None and not self.private:
            raise WorldError("un PID ne peut être choisi que dans un monde privé")
        words = [os.fspath(word) for word in command]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = Program(self, words, ours)
        order = {
            "do": "start",
            "command": words,
            "env": {**self._environment(), **(env or {})},
            "cwd": cwd,
            "pid": pid or 0,
            "echo": echo,
            "size": size,
            "filter": seccomp.hex(),
            "limits": self._resource_limits(),
            "told": keep[0] if keep is not None else "",
        }
        with self._changed:
            self._programs.append(program)
        os.write(self._wake, b"x")
        try:
            with theirs:
                answer = self._ask(order, "started", theirs.fileno(), *([keep[1]] if keep is not None else []))
            with self._changed:
                if not answer["pid"]:
                    raise WorldError(_no_fork(answer["errno"], pid))
                program.inside = answer["pid"]
                program.code = self._ended.pop(program.inside, None)
                deadline = time.monotonic() + ANSWER
                while program._cord is not None and not program.listener and not self._over:
                    if not self._changed.wait(max(deadline - time.monotonic(), 0)):
                        raise WorldError(f"{words[0]} : ne démarre pas en {ANSWER:g} s")
                if program.failed:
                    raise WorldError(program.failed)
                if self._over and program._cord is not None and not program.listener:
                    raise WorldError(f"{words[0]} : son monde a fini avant lui")
        except BaseException:
            with self._changed:
                self._programs.remove(program)
                program._release()
            raise
        return program

    def objects(self) -> Left:
        """Count now what lies in its kernel objects and folder; `alive` is 0. Blocks. Raises WorldError."""
        answer = self._ask({"do": "count"}, "counted")
        return Left(_things(answer), answer["counts"], 0)

    def keys(self) -> dict[tuple[str, int], int]:
        """Return the keys of the System V objects in it, by kind (as in leftovers) and number. Raises WorldError."""
        return {(kind, number): key for kind, number, key in self._ask({"do": "keys"}, "keys")["keys"]}

    def remember(self) -> None:
        """Keep what the folder holds now, as what reset() makes again. Blocks. Raises WorldError."""
        self._ask({"do": "remember"}, "remembered")

    def reset(self, keep: Collection[Program] = (), *, pid: int = 0, numbers: int = 0) -> bool:
        """Make the world as it was when remember() was called: kill all but `keep` (not their children), remove what is
        in the kernel and elsewhere in the world, restore the folder; the next process gets the PID after `pid`.

        numbers: so many after that one are made sure to be free; needed only after programs with threads.
        Without a private world, only what is known to be its programs' is removed, and PIDs go on. Blocks. Return
        whether nobody is left, and the numbers are free. Raises WorldError.
        """
        order = {"do": "reset", "keep": [program.inside for program in keep], "pid": pid, "numbers": numbers}
        answer = self._ask(order, "fresh")
        return not answer["left"] and bool(answer["free"])

    def lend(self, path: str | Path) -> str:
        """Put a copy of a file beside the folder, readable for all, and return where its programs find it.

        It is not counted as left. Raises WorldError, OSError.
        """
        name = Path(path).name
        with open(path, "rb") as file:
            order = {"do": "put", "name": f"../{name}", "mode": 0o755, "time": 0}
            self._ask(order, "", file.fileno())
        self._check_copied(self._ask({"do": "placed"}, "placed")["failed"])
        return os.path.normpath(f"{self.inside}/../{name}")

    def tree(self) -> dict[int, int]:
        """Return the PIDs of all its processes, outside -> inside, the first process left out."""
        return {pid: inside for pid, inside in _tree(self.init).items() if pid != self.init and inside}

    # Making and ending

    def _begin(self, *, private: bool) -> None:
        """Start the first process; sets `private` or `refused`."""
        with contextlib.ExitStack() as undo:
            if not private:
                undo.enter_context(_alone())
                top = Path(tempfile.mkdtemp(prefix="spectacles-"))
                undo.callback(leftovers.remove, str(top))
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            undo.callback(ours.close)
            with theirs:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _CODE, str(ROOT), str(theirs.fileno())],
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            undo.callback(_reap, process)
            undo.callback(ours.close)  # first, for that is what ends it
            person = self._person
            name = self._source.resolve().name if self._source is not None else ""
            setup: dict[str, Any] = {
                "private": private,
                "uid": person.inside_uid if private else person.uid,
                "gid": person.inside_gid if private else person.gid,
                "drop": person.other,
                "name": name or "dossier",
                "folder": "" if private else str(top / (name or "dossier")),
                "visible": self.shared,
                "disk": self._limits.disk,
                "files": self._limits.files,
                "memory": self._limits.memory or 0,
                "seconds": self._limits.seconds or 0,
            }
            if not private:
                os.mkdir(setup["folder"])
                if person.other:
                    os.chown(top, person.uid, person.gid)
                    os.chown(setup["folder"], person.uid, person.gid)
            ours.settimeout(ANSWER)
            try:
                ours.send(json.dumps(setup).encode())
                answer, descriptors = first.hear(ours)
                if answer.get("is") == "unshared":
                    try:
                        _map(process.pid, person)
                    except OSError as error:  # as under Ubuntu's AppArmor, which lets namespaces be made, but not used
                        self.refused = refusal.explain("uid_map", error.errno or 0)
                        return
                    ours.send(b'{"do": "go"}')
                    answer, descriptors = first.hear(ours)
            except OSError as error:
                raise WorldError(f"le premier processus d'un monde ne répond pas : {reason(error)}") from None
            ours.settimeout(None)
            if answer.get("is") == "refused":
                self.refused = refusal.explain(answer["step"], answer["errno"])
                return
            if answer.get("is") != "ready":
                raise WorldError("le premier processus d'un monde a fini avant de l'avoir fait")
            self.private = private
            self.inside = answer["folder"]
            place, self._pidfd = descriptors
            undo.callback(os.close, place)
            undo.callback(self._kill, process)
            self.folder = Path(f"/proc/{os.getpid()}/fd/{place}") if private else Path(self.inside)
            self.init = pid_of(self._pidfd)
            self._control = ours
            self._reader = threading.Thread(target=self._read, name="monde", daemon=True)
            self._woken, self._wake = os.pipe()
            undo.callback(os.close, self._wake)
            undo.callback(os.close, self._woken)
            self._reader.start()
            undo.callback(self._end)
            self._closing.push(undo.pop_all())

    def _fill(self) -> None:
        """Copy the folder: files, directories and links; the rest belongs to runs gone by. Raises WorldError."""
        todo = [self._source] if self._source is not None else []
        try:
            while todo:
                for entry in os.scandir(todo.pop()):
                    status = entry.stat(follow_symlinks=False)
                    order: dict[str, Any] = {
                        "do": "put",
                        "name": os.path.relpath(entry.path, self._source),
                        "mode": stat.S_IMODE(status.st_mode) & 0o777,
                        "time": status.st_mtime_ns,
                    }
                    if stat.S_ISDIR(status.st_mode):
                        self._ask({**order, "mode": order["mode"] | stat.S_IRWXU})
                        todo.append(Path(entry.path))
                    elif stat.S_ISLNK(status.st_mode):
                        self._ask({**order, "link": os.readlink(entry.path)})
                    elif stat.S_ISREG(status.st_mode):
                        with open(entry.path, "rb") as file:
                            self._ask(order, "", file.fileno())
        except OSError as error:
            raise WorldError(f"copie du dossier : {reason(error)}") from None
        self._check_copied(self._ask({"do": "copied"}, "placed", timeout=10 * ANSWER)["failed"])

    def _check_copied(self, failed: list[Any]) -> None:
        if failed:
            why = reason(OSError(failed[1], os.strerror(failed[1]), failed[0]))
            raise WorldError(f"copie du dossier : {why} (place : {self._limits.disk // 1024} Kio)")

    def _end(self) -> None:
        """Ask for the end and the count, and stop reading."""
        try:
            answer = self._ask({"do": "end"}, "end", timeout=ENDING)
            self.left = Left(
                _things(answer), answer["counts"], answer["alive"], tuple(answer["removed"]), answer["dead"]
            )
        except WorldError:
            pass  # killed, or too slow: the kernel ends it all below
        if not self.private:
            self._control.shutdown(socket.SHUT_RDWR)
        else:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        with self._changed:
            self._over = True
        os.write(self._wake, b"x")
        self._reader.join(ANSWER)
        with self._changed:
            for program in self._programs:
                program._read_terminal()
                program._release()

    def _kill(self, process: subprocess.Popen[bytes]) -> None:
        """Make sure that the first process is dead, and without a namespace all that it may have lost."""
        try:
            process.wait(ENDING if self.private else 2 * ENDING)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
        os.close(self._pidfd)
        if not self.private:
            _kill_marked(self._mark())

    def _mark(self) -> str:
        return f"{os.getpid()}-{id(self):x}"

    # Talking with the first process

    def _ask(self, order: dict[str, Any], kind: str = "", *descriptors: int, timeout: float = ANSWER) -> dict[str, Any]:
        """Give an order; wait for the answer if it has one. Raises WorldError."""
        with self._asking:
            try:
                first.say(self._control, order, *descriptors)
            except OSError:
                raise WorldError("ce monde a déjà fini") from None
            deadline = time.monotonic() + timeout
            with self._changed:
                while kind:
                    for answer in self._answers:
                        if answer["is"] == kind:
                            self._answers.remove(answer)
                            return answer
                    left = deadline - time.monotonic()
                    if self._over or left <= 0:
                        raise WorldError("le premier processus du monde ne répond plus")
                    self._changed.wait(left)
        return {}

    def _read(self) -> None:
        """In a thread: take in all that comes, from the first process and from the programs' terminals."""
        while True:
            poll = select.poll()
            poll.register(self._woken, select.POLLIN)
            poll.register(self._control, select.POLLIN)
            with self._changed:
                if self._over:
                    return
                programs = {}
                for program in self._programs:
                    if program._cord is not None:
                        poll.register(program._cord, select.POLLIN)
                        programs[program._cord.fileno()] = program
                    if program._terminal is not None:
                        poll.register(program._terminal, select.POLLIN)
                        programs[program._terminal] = program
            for number, _ in poll.poll(1000):
                with self._changed:
                    if number == self._woken:
                        os.read(self._woken, 512)
                    elif number == self._control.fileno():
                        self._take()
                    elif (found := programs.get(number)) is not None:
                        cord = found._cord
                        if cord is not None and number == cord.fileno():
                            found._hear(cord)
                        elif number == found._terminal and not found._read_terminal() and found.code is not None:
                            found._close_terminal()
                    self._changed.notify_all()

    def _take(self) -> None:
        try:
            answer, _ = first.hear(self._control)
        except OSError:
            answer = {}
        if not answer:
            self._over = True
        elif answer["is"] == "over":
            self.over += (answer["what"],)
        elif answer["is"] == "ended":
            for program in self._programs:
                if program.inside == answer["pid"] and program.code is None:
                    program.code = answer["status"]
                    return
            self._ended[answer["pid"]] = answer["status"]
        else:
            self._answers.append(answer)

    # What programs get

    def _environment(self) -> dict[str, str]:
        try:
            name = pwd.getpwuid(self._person.inside_uid).pw_name
        except KeyError:
            name = str(self._person.inside_uid)
        return {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self.inside,
            "PWD": self.inside,
            "USER": name,
            "LOGNAME": name,
            "SHELL": "/bin/sh",
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            first.MARKER: self._mark(),
            **self._env,
        }

    def _resource_limits(self) -> dict[str, int]:
        limits = self._limits
        # Before Linux 5.14, and without a user namespace, all processes of the user count.
        release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
        # Within one, the first process does.
        others = 1 if self.private and release >= (5, 14) else _tasks_of(self._person.uid)
        found = {
            "RLIMIT_NPROC": limits.processes + others,
            "RLIMIT_FSIZE": limits.disk,
            "RLIMIT_NOFILE": limits.descriptors,
            "RLIMIT_CORE": 0,
        }
        if limits.cpu is not None:
            found["RLIMIT_CPU"] = limits.cpu
        return found


# Steps of its making


@dataclass(frozen=True)
class _Person:
    """The user that programs run as."""

    uid: int  # as this process sees them
    gid: int
    inside_uid: int  # as a private world does
    inside_gid: int
    other: bool  # not ourselves: we are root


def _person() -> _Person:
    """Return who programs run as: ourselves; for root the user who called sudo, else nobody.

    Root of a user namespace in which there is no other user stays who he is, and is nobody inside.
    """
    uid, gid = os.geteuid(), os.getegid()
    if uid != 0:
        return _Person(uid, gid, uid, gid, False)
    try:
        nobody, group = pwd.getpwnam("nobody")[2:4]
    except KeyError:
        nobody = group = 65534
    with contextlib.suppress(KeyError, ValueError):
        caller = int(os.environ["SUDO_UID"]), int(os.environ["SUDO_GID"])
        if min(caller) > 0:
            nobody, group = caller
    if _exists("uid", nobody) and _exists("gid", group):
        return _Person(nobody, group, nobody, group, True)
    return _Person(uid, gid, nobody, group, False)


def _exists(kind: str, number: int) -> bool:
    """Say whether our user namespace has that user or group."""
    for line in Path(f"/proc/self/{kind}_map").read_text().splitlines():
        start, _, count = map(int, line.split())
        if start <= number < start + count:
            return True
    return False


def _map(pid: int, person: _Person) -> None:
    """Write the map of users of the namespace that `pid` has just made, of one user. Raises OSError."""
    if not person.other:  # without rights over groups the kernel wants that said first
        Path(f"/proc/{pid}/setgroups").write_text("deny")
    Path(f"/proc/{pid}/uid_map").write_text(f"{person.inside_uid} {person.uid} 1")
    Path(f"/proc/{pid}/gid_map").write_text(f"{person.inside_gid} {person.gid} 1")


def _own_places() -> list[Path]:
    """Return what a Python program of ours must be able to read."""
    return [path for path in (Path(sys.prefix), Path(sys.base_prefix), ROOT) if path != Path("/")]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the name that only one world without namespaces has at a time. Blocks for at most LOCK_WAIT seconds.

    An abstract UNIX socket: the kernel frees it with its owner, however he dies, and it leaves no file.
    """
    name = f"\0spectacles-monde-{os.geteuid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as held:
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                held.bind(name)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                if time.monotonic() > deadline:
                    raise WorldError(f"un autre monde sans cloisons est encore là après {LOCK_WAIT:g} s") from None
                time.sleep(0.05)
        yield


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Wait for the first process, which has nothing left to do; kill it if it takes longer all the same."""
    try:
        process.wait(ENDING)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(ANSWER)


def _kill_marked(mark: str) -> None:
    """Kill every process whose environment says that it is of the world `mark`: orphans of a first process killed."""
    wanted = f"{first.MARKER}={mark}".encode()
    for _ in range(100):
        found = []
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in Path("/proc", name, "environ").read_bytes().split(b"\0"):
                        found.append(int(name))
        if not found:
            return
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


# Looking


def _things(answer: dict[str, Any]) -> tuple[Thing, ...]:
    return tuple(Thing(*entry) for entry in answer["entries"])


def _no_fork(number: int, pid: int | None) -> str:
    if number == errno.EEXIST:
        return f"le PID {pid} est déjà pris"
    return f"pas de nouveau processus : {reason(OSError(number, os.strerror(number)))}"


def pid_of(pidfd: int) -> int:
    """Return the PID, as we see it, of the process that a pidfd stands for; 0 when it is no more."""
    for line in Path(f"/proc/self/fdinfo/{pidfd}").read_text().splitlines():
        if line.startswith("Pid:"):
            return max(int(line.split()[1]), 0)
    return 0


def _tree(top: int) -> dict[int, int]:
    """Return `top` and all its descendants that live, outside PID -> PID in their innermost namespace."""
    found = {}
    for pid in (top, *first.below(top)):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            state = next(line for line in lines if line.startswith("State:")).split()[1]
            numbers = next(line for line in lines if line.startswith("NSpid:")).split()
            if state not in "ZX":
                found[pid] = int(numbers[-1])
    return found


def _tasks_of(uid: int) -> int:
    """Return the number of threads of a user's processes."""
    count = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == uid:
                    count += len(os.listdir(f"/proc/{name}/task"))
    return count
