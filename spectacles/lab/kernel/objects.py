"""The objects that the tasks of a look use, or that were asked for by name, and what lies in them."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from spectacles.common import addresses, storage
from spectacles.common.lockfile import LOCK_NAME
from spectacles.lab.kernel import borrow, contents, futexes, sockets, sysv
from spectacles.lab.kernel.model import (
    File,
    FileLock,
    Lock,
    Memory,
    Message,
    MessageQueue,
    Pipe,
    Queue,
    Semaphore,
    SemaphoreSet,
    SetMember,
    Socket,
)
from spectacles.lab.kernel.proc import alive, device_and_inode, read, why

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from spectacles.lab.kernel.model import Object, Process
    from spectacles.lab.kernel.proc import Descriptor, Mapping
    from spectacles.lab.kernel.roll import Roll
    from spectacles.lab.kernel.sockets import TcpLine, UnixLine

MOST_MESSAGES = 256  # of a queue that are copied
LOOK_AGAIN = 1.0  # seconds
SYSV_MAPPING = "/SYSV"  # path of System V memory in /proc/PID/maps; its inode is the shmid
ANONYMOUS = "/dev/zero (deleted)"  # mmap(MAP_SHARED | MAP_ANONYMOUS)


def refusal(error: OSError) -> str:
    """Return why an object could not be read, in French."""
    if error.errno in (errno.EACCES, errno.EPERM):
        return "pas le droit de lecture sur cet objet"
    if error.errno == errno.ENOSYS:
        return "ce noyau ne sait pas copier un message (CONFIG_CHECKPOINT_RESTORE)"
    return os.strerror(error.errno or 0)


class Directory:
    """A run directory: what its lock says, and what the programs of the course derive from it.

    holder: PID of its server, 0 if none is known. question: its name, "". keys, names: of its kernel objects.
    """

    def __init__(self, path: str) -> None:
        self.path = os.path.abspath(path)
        self.holder = 0
        self.question = ""
        self.keys: set[int] = set()
        self.names: set[str] = set()
        self.fifos: dict[str, str] = {}  # id -> path
        self.files: dict[str, str] = {}
        self.id = ""

    def update(self) -> None:
        """Read it anew; a directory that has gone is empty."""
        self.holder, self.question = 0, ""
        self.fifos, self.files = {}, {}
        try:
            self.id = device_and_inode(os.stat(self.path))
            self.keys = {addresses.directory_key(self.path, n) for n in (addresses.PROJECT_MSQ, addresses.PROJECT_SHM)}
            key = addresses.directory_key(self.path, addresses.PROJECT_MSQ)
            self.names = {addresses.semaphore_name(self.path), f"/spectacles-c-{key:08x}"}
            fd = _open_directory(self.path)
        except OSError:
            return
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        self._note(entry)
        finally:
            os.close(fd)
        with contextlib.suppress(OSError):
            self._read_lock(futexes.read_file(os.path.join(self.path, LOCK_NAME), 65536))

    def _note(self, entry: os.DirEntry[str]) -> None:
        # What an entry is, is known without a look at its inode; most are files that are of no interest.
        path = os.path.join(self.path, entry.name)
        if entry.is_file(follow_symlinks=False):
            if entry.name in (storage.FILE_NAME, LOCK_NAME):
                self.files[f"file:{device_and_inode(os.stat(path, follow_symlinks=False))}"] = path
        elif not entry.is_dir(follow_symlinks=False) and not entry.is_symlink():
            status = os.stat(path, follow_symlinks=False)
            if stat.S_ISFIFO(status.st_mode):
                self.fifos[f"fifo:{device_and_inode(status)}"] = path

    def _read_lock(self, data: bytes) -> None:
        record = dict(line.split("=", 1) for line in data.decode("utf-8", "replace").splitlines() if "=" in line)
        if record.get("pid", "").isdecimal():
            self.holder, self.question = int(record["pid"]), record.get("question", "")
        for what in ("key", "shm-key"):
            for word in record.get(what, "").split():
                with contextlib.suppress(ValueError):
                    self.keys.add(int(word, 0))
        self.names |= set(record.get("sem-name", "").split())


def _open_directory(path: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_NOATIME)
    except PermissionError:  # not its owner
        return os.open(path, flags)


class Used:
    """The System V objects that tasks were seen to use, by id."""

    def __init__(self) -> None:
        self.queues: set[int] = set()
        self.sets: set[int] = set()

    def add_wait(self, target: str | None) -> None:
        """Take note of an object that a task waits on."""
        kind, _, number = (target or "").partition(":")
        if kind == "queue":
            self.queues.add(int(number))
        elif kind == "semset":
            self.sets.add(int(number))


class Collector:
    """Collects objects, look after look. close() it."""

    def __init__(self, roll: Roll) -> None:
        self._roll = roll
        self._copier = sysv.Copier()
        self._tee = borrow.Tee()
        self._tcp_lines: list[TcpLine] = []
        self._tcp_state: object = None  # when they were read
        self._tcp_read = float("-inf")
        self._six = False  # whether IPv6 is used
        self._mapped: list[tuple[int, Mapping]] = []  # named semaphores, by process
        self.locks: dict[str, list[FileLock]] = {}  # id of the file -> locks
        self._dead_or_alive: dict[int, bool] = {}  # in this look
        self._unix: dict[int, UnixLine] = {}
        self.queue_lines: dict[int, sysv.QueueLine] = {}
        self.pids: set[int] = set()  # of all that were seen to use what is looked at

    def close(self) -> None:
        """Close what is open."""
        self._tee.close()

    # System V

    def queues(self, wanted: Iterable[int]) -> dict[str, Object]:
        """Return the queues that exist, with their messages."""
        self._dead_or_alive = {}
        found: dict[str, Object] = {}
        for msqid in wanted:
            line = self.queue_lines.get(msqid)
            if line is None:
                continue
            refused = None
            messages: tuple[Message, ...] = ()
            if line.messages:
                try:
                    messages = tuple(
                        self._message(*message, line) for message in self._copier.messages(msqid, MOST_MESSAGES)
                    )
                except OSError as error:
                    refused = refusal(error)
            found[f"queue:{msqid}"] = Queue(
                f"queue:{msqid}",
                line.key,
                msqid,
                line.user,
                line.mode,
                line.size,
                line.messages,
                self._limit(msqid),
                line.last_sender,
                line.last_receiver,
                messages,
                refused,
            )
        return found

    def _limit(self, msqid: int) -> int | None:
        try:
            return sysv.queue_limit(msqid)
        except OSError:
            return None

    def _message(self, type_: int, body: bytes, line: sysv.QueueLine) -> Message:
        decoded = contents.message(type_, body)
        if decoded:
            live = self._alive(decoded.client)
            return Message(
                type_,
                len(body),
                body,
                decoded.layout,
                decoded.fields,
                decoded.client,
                live,
                True,
                decoded.table,
            )
        # A stranger's layout: a type that is the PID of one who uses the same objects, or did, is meant so.
        if type_ < contents.FIRST_PID or type_ > contents.MOST_PID:
            return Message(type_, len(body), body)
        known = type_ in self.pids
        addressee = type_ if known else None
        return Message(type_, len(body), body, addressee=addressee, alive=self._alive(type_), sure=known)

    def _alive(self, pid: int) -> bool:
        if pid not in self._dead_or_alive:
            self._dead_or_alive[pid] = alive(pid)
        return self._dead_or_alive[pid]

    def sets(self, wanted: Iterable[int]) -> dict[str, Object]:
        """Return the System V semaphore sets that exist."""
        lines = sysv.sets()
        found: dict[str, Object] = {}
        for semid in wanted:
            line = lines.get(semid)
            if line is None:
                continue
            refused, members = None, tuple[SetMember, ...]()
            try:
                members = sysv.set_members(semid, line.members)
            except OSError as error:
                refused = refusal(error)
            id_ = f"semset:{semid}"
            found[id_] = SemaphoreSet(id_, line.key, semid, line.user, line.mode, line.members, members, refused)
        return found

    # Memory

    def memories(self, wanted: Iterable[int], processes: Iterable[Process]) -> dict[str, Object]:
        """Return shared memory: of System V, and files and nameless memory that begin with a table."""
        lines = sysv.memories()
        places: dict[str, list[tuple[int, Mapping]]] = {}
        self._mapped = []
        for process in processes:
            for mapping in self._roll.hole(process.pid).maps():
                if not mapping.shared or not mapping.path:
                    continue
                if mapping.path.startswith(futexes.NAMED):
                    self._mapped.append((process.pid, mapping))
                elif mapping.path.startswith(SYSV_MAPPING):
                    places.setdefault(f"shm:{mapping.inode}", []).append((process.pid, mapping))
                elif mapping.offset == 0 and (mapping.path == ANONYMOUS or mapping.writable):
                    id_ = f"map:{mapping.device:x}:{mapping.inode}"
                    places.setdefault(id_, []).append((process.pid, mapping))
        found: dict[str, Object] = {}
        for shmid in {int(id_[4:]) for id_ in places if id_.startswith("shm:")} | set(wanted):
            line = lines.get(shmid)
            if line is None:
                continue
            id_ = f"shm:{shmid}"
            users = tuple(sorted({pid for pid, _ in places.get(id_, ())}))
            memory = Memory(id_, line.key, None, line.size, line.attached, line.creator, line.last, users)
            if not places.get(id_):
                attached = f"{line.attached} processus que l'on ne peut pas regarder" if line.attached else "personne"
                memory = replace(memory, refused=f"attachée par {attached} : contenu non lu")
            else:
                memory = self._filled(memory, places[id_])
            found[id_] = memory
        for id_, where in places.items():
            if id_.startswith("map:"):
                mapping = where[0][1]
                size, users = mapping.end - mapping.start, tuple(sorted({pid for pid, _ in where}))
                memory = self._filled(Memory(id_, None, mapping.path, size, len(users), users=users), where)
                if memory.table is not None or (mapping.path.startswith("/dev/shm/") and not memory.refused):
                    found[id_] = memory
        return found

    def _filled(self, memory: Memory, places: list[tuple[int, Mapping]]) -> Memory:
        hole = None
        for pid, mapping in places:
            hole = self._roll.hole(pid)
            data = hole.memory(mapping.start, min(memory.size, mapping.end - mapping.start, borrow.MOST_BYTES))
            if data:
                return replace(memory, data=data, table=contents.table_of(data), claims=contents.claimed(data))
        return replace(memory, refused=hole.refused if hole else None)

    def semaphores(self, names: Iterable[str]) -> dict[str, Object]:
        """Return the named semaphores of `names` ("/name"), and those that memories() has seen mapped."""
        paths = futexes.named_semaphores()
        wanted = {futexes.NAMED + name[1:] for name in names}
        known = {mapping.inode for _, mapping in self._mapped}
        found: dict[str, Object] = {}
        for inode, path in paths.items():
            if path not in wanted and inode not in known:
                continue
            name = "/" + path.removeprefix(futexes.NAMED)
            users = tuple(sorted({pid for pid, mapping in self._mapped if mapping.inode == inode}))
            words, refused = None, None
            try:
                id_ = f"sem:{device_and_inode(os.stat(path))}"
                words = futexes.named_semaphore(path)
                refused = None if words else "pas un sémaphore de la glibc"
            except FileNotFoundError:
                continue
            except OSError as error:
                words, refused = self._mapped_words(inode), refusal(error)
            value, waiters = words or (None, None)
            service = bool(futexes.SERVICE.fullmatch(name))
            found[id_] = Semaphore(id_, name, value, waiters, users, service, None if words else refused)
        for pid, mapping in self._mapped:
            id_ = futexes.semaphore_id(mapping)
            if mapping.inode not in paths and id_ not in found:
                users = tuple(sorted({p for p, m in self._mapped if m.inode == mapping.inode}))
                words = self._mapped_words(mapping.inode)
                value, waiters = words or (None, None)
                refused = None if words else self._roll.hole(pid).refused
                found[id_] = Semaphore(id_, f"n° {mapping.inode}, nom retiré", value, waiters, users, refused=refused)
        return found

    def _mapped_words(self, inode: int) -> tuple[int, int] | None:
        for pid, mapping in self._mapped:
            if mapping.inode == inode and (words := self._roll.hole(pid).words(mapping.start, "II")):
                return words[0], words[1]
        return None

    # Descriptors

    def pipes(self, processes: Iterable[Process], directory: Directory | None, waited: set[str]) -> dict[str, Object]:
        """Return the FIFOs that the processes have open or that lie in the directory, and pipes that are waited on."""
        holders = self._holders(processes, ("fifo", "pipe"))
        found: dict[str, Object] = {}
        paths = dict(directory.fifos) if directory else {}
        for id_ in [*paths, *(id_ for id_ in holders if id_ not in paths)]:
            open_ = holders.get(id_, [])
            if id_.startswith("pipe:") and id_ not in waited:
                continue
            path = paths.get(id_) or next((d.path for _, d in open_ if d.path), None)
            readers = tuple(sorted({pid for pid, d in open_ if d.readable}))
            writers = tuple(sorted({pid for pid, d in open_ if d.writable}))
            size: int | None = None if open_ else 0
            data, refused = b"", None
            for pid, descriptor in sorted(open_, key=lambda o: not o[1].readable):
                try:
                    size, data = self._tee.pipe(pid, descriptor.fd)
                    refused = None
                    break
                except OSError as error:
                    if error.errno in (errno.EPERM, errno.EACCES):  # else it was closed meanwhile
                        refused = why(error)
            numbers = contents.pipe_numbers(data)
            found[id_] = Pipe(id_, path, size, data, readers, writers, numbers, refused)
        return found

    def _holders(self, processes: Iterable[Process], kinds: tuple[str, ...]) -> dict[str, list[tuple[int, Descriptor]]]:
        found: dict[str, list[tuple[int, Descriptor]]] = {}
        for process in processes:
            for descriptor in self._roll.hole(process.pid).descriptors().values():
                if descriptor.kind in kinds:
                    found.setdefault(descriptor.id, []).append((process.pid, descriptor))
        return found

    def message_queues(self, processes: Iterable[Process]) -> dict[str, Object]:
        """Return the POSIX message queues that the processes have open."""
        found: dict[str, Object] = {}
        for id_, open_ in self._holders(processes, ("mq",)).items():
            queue = MessageQueue(id_, id_[3:], users=tuple(sorted({pid for pid, _ in open_})))
            try:
                what = borrow.message_queue_contents(open_[0][0], open_[0][1].fd)
                queue = replace(queue, size=what.size, count=what.messages, most=what.most, most_size=what.most_size)
            except OSError as error:
                queue = replace(queue, refused=why(error))
            found[id_] = queue
        return found

    def files(
        self, processes: Iterable[Process], directory: Directory | None, waited: Iterable[str]
    ) -> dict[str, Object]:
        """Return the table and the lock of the directory, and files whose locks are waited for."""
        holders = self._holders(processes, ("file",))
        paths = dict(directory.files) if directory else {}
        for id_, open_ in holders.items():
            path = open_[0][1].path or ""
            if id_ in waited or os.path.basename(path) == storage.FILE_NAME:
                paths.setdefault(id_, path)
        self.locks = self._locks_through(processes, paths.keys())
        found: dict[str, Object] = {}
        for id_, path in paths.items():
            users = tuple(sorted({pid for pid, _ in holders.get(id_, ())}))
            size, table, problem, refused = 0, None, None, None
            try:
                data = futexes.read_file(path, borrow.MOST_BYTES)
                size = os.stat(path).st_size
                table = contents.table_of(data) if size == len(data) else None
                if os.path.basename(path) == storage.FILE_NAME and table is None:
                    problem = storage.check_table(data)
            except OSError as error:
                refused = refusal(error)
            found[id_] = File(id_, path, size, table, problem, tuple(self.locks.get(id_, ())), users, refused)
        return found

    def _locks_through(self, processes: Iterable[Process], ids: Collection[str]) -> dict[str, list[FileLock]]:
        """Return the locks that the processes hold on some files, by id of the file.

        /proc/PID/fdinfo, and not /proc/locks: while that is read, everybody who wants a lock on any file waits.
        """
        found: dict[str, list[FileLock]] = {}
        for process in processes:
            for descriptor in self._roll.hole(process.pid).descriptors().values():
                if descriptor.id not in ids and descriptor.kind != "fifo":
                    continue
                with contextlib.suppress(OSError):
                    for line in read(f"/proc/{process.pid}/fdinfo/{descriptor.fd}", 4096).splitlines():
                        lock = _lock(line.partition(b"lock:")[2])
                        if lock and lock not in found.setdefault(descriptor.id, []):
                            found[descriptor.id].append(lock)
        return found

    # Sockets

    def sockets(self, processes: Iterable[Process]) -> dict[str, Object]:
        """Return the sockets that the processes have open, their other ends, and connections not yet accepted."""
        holders = self._holders(processes, ("socket",))
        inodes = {int(id_[7:]) for id_ in holders}
        first = next(iter(processes), None)
        borrowed = self._borrow_sockets(holders)
        if first is not None and self._tcp_is_old(inodes, borrowed):
            self._read_sockets(first.pid, inodes)
            borrowed |= self._borrow_sockets({id_: open_ for id_, open_ in holders.items() if id_ not in borrowed})
        ends = {(line.local, line.remote): line for line in self._tcp_lines if line.state != "LISTEN"}
        ports = {line.port for line in self._tcp_lines if line.state == "LISTEN" and line.inode in inodes}
        found: dict[str, Object] = {}
        for line in self._tcp_lines:
            id_ = _end_id(line)
            if line.inode and line.inode in inodes:
                found[id_] = self._tcp(line, holders[id_], ends, borrowed.get(id_))
            elif not line.inode and line.port in ports and line.state in ("ESTABLISHED", "CLOSE_WAIT", "SYN_RECV"):
                found[id_] = self._tcp(line, [], ends, None)
        for inode in inodes & self._unix.keys():
            id_, unix = f"socket:{inode}", self._unix[inode]
            users = tuple(sorted({pid for pid, _ in holders[id_]}))
            found[id_] = Socket(id_, "unix", unix.state, unix.path, "", users=users)
        return found

    def _borrow_sockets(
        self, holders: dict[str, list[tuple[int, Descriptor]]]
    ) -> dict[str, borrow.SocketContents | OSError]:
        found: dict[str, borrow.SocketContents | OSError] = {}
        known = {_end_id(line) for line in self._tcp_lines}
        for id_, open_ in holders.items():
            if id_ in known:
                try:
                    found[id_] = borrow.socket_contents(open_[0][0], open_[0][1].fd)
                except OSError as error:
                    found[id_] = error
        return found

    def _tcp_is_old(self, inodes: set[int], borrowed: dict[str, borrow.SocketContents | OSError]) -> bool:
        """Say whether to read the table of connections again: it is long, and says the same most of the time.

        What changes without a descriptor that opens or closes is seen through those that are borrowed.
        """
        inodes = inodes - self._unix.keys()
        if not inodes:
            self._tcp_lines = []
            return False
        waiting = sum(seen.waiting or 0 for seen in borrowed.values() if isinstance(seen, borrow.SocketContents))
        state = (frozenset(inodes), waiting)
        now = time.monotonic()
        old = (
            state != self._tcp_state
            or now - self._tcp_read > LOOK_AGAIN
            or (waiting and inodes)
            or any(isinstance(seen, OSError) for seen in borrowed.values())
        )
        if old:
            self._tcp_state, self._tcp_read = state, now
        return bool(old)

    def _read_sockets(self, pid: int, inodes: set[int]) -> None:
        left = inodes - self._unix.keys()
        self._tcp_lines = sockets.tcp(pid)
        left -= {line.inode for line in self._tcp_lines}
        if left:
            self._unix |= {inode: line for inode, line in sockets.unix(pid).items() if inode in inodes}
        left -= self._unix.keys()
        if left or self._six:
            lines = sockets.tcp(pid, "tcp6")
            self._tcp_lines += lines
            self._six = not inodes.isdisjoint(line.inode for line in lines)

    def _tcp(
        self,
        line: TcpLine,
        open_: list[tuple[int, Descriptor]],
        ends: dict[tuple[str, str], TcpLine],
        seen: borrow.SocketContents | OSError | None,
    ) -> Socket:
        id_, users = _end_id(line), tuple(sorted({pid for pid, _ in open_}))
        now = seen if isinstance(seen, borrow.SocketContents) else borrow.SocketContents()
        refused = why(seen) if isinstance(seen, OSError) and seen.errno in (errno.EPERM, errno.EACCES) else None
        if line.state == "LISTEN":
            waiting = line.unread if now.waiting is None else now.waiting
            return Socket(id_, line.family, line.state, line.local, "", waiting=waiting, most=now.most, users=users)
        decoded = contents.tcp_request(now.data) or contents.tcp_reply(now.data)
        layout, fields = decoded or (None, ())
        other = ends.get((line.remote, line.local))
        return Socket(
            id_,
            line.family,
            line.state,
            line.local,
            line.remote,
            line.unread if now.unread is None else now.unread,
            line.unacknowledged if now.unacknowledged is None else now.unacknowledged,
            users=users,
            peer=_end_id(other) if other else None,
            data=now.data,
            layout=layout,
            fields=fields,
            refused=refused,
        )


def _end_id(line: TcpLine) -> str:
    return f"socket:{line.inode}" if line.inode else f"connection:{line.local}-{line.remote}"


def _lock(line: bytes) -> FileLock | None:
    """Return the lock in a line of fdinfo after "lock:": `1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF`."""
    words = line.split()
    return FileLock(words[1].decode(), words[3] == b"WRITE", int(words[4])) if len(words) >= 5 else None


def lock_users(words: dict[int, Lock | Semaphore], pids_by_task: dict[int, int]) -> dict[str, Object]:
    """Return the locks that tasks wait on, each once, with the processes that have them."""
    found: dict[str, Object] = {}
    for tid, thing in words.items():
        if isinstance(thing, Lock) and tid in pids_by_task:
            known = found.get(thing.id)
            users = {pids_by_task[tid], *(known.users if isinstance(known, Lock) else ())}
            found[thing.id] = replace(thing, users=tuple(sorted(users)))
    return found
