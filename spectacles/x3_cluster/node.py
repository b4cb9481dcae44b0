"""Which etcd: the one that the command line names, or else a node of our own, for trying out."""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import time

from spectacles.common import catalogue, storage
from spectacles.common.errors import SpectaclesError, UsageError, reason
from spectacles.q5_sockets import tls
from spectacles.x3_cluster.etcd import DEFAULT_PREFIX, Cluster, Etcd, UnavailableError, places

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from spectacles.common.directory import RunDirectory
    from spectacles.common.lifecycle import Server

FOLDER = "etcd"  # in the run directory: what the node of our own keeps there
START = 8.0  # seconds that it gets to be there
STOP = 2.0  # seconds that it gets to end by itself
PAUSE = 0.02  # seconds between two looks whether it is there
CLIENTS, _PEERS = "localhost:1", "localhost:2"  # names of its sockets: etcd wants them to look like addresses
_LOG = "etcd.log"
_URL, _PEER_URL = f"unix://{CLIENTS}", f"unix://{_PEERS}"
_OPTIONS = (
    *("--name", "seul", "--data-dir", "data", "--initial-cluster", f"seul={_PEER_URL}"),
    *("--listen-client-urls", _URL, "--advertise-client-urls", _URL),
    *("--listen-peer-urls", _PEER_URL, "--initial-advertise-peer-urls", _PEER_URL),
    *("--heartbeat-interval", "10", "--election-timeout", "50"),  # ms: nobody else is to be waited for
    *("--auto-compaction-mode", "revision", "--auto-compaction-retention", "1000"),  # changes that it can still tell
    *("--logger", "zap", "--log-level", "warn", "--log-outputs", "stderr"),
)
_PR_SET_PDEATHSIG = 1  # prctl(2)
_HOW_TO = "« apt install etcd-server » (Debian, Ubuntu) l'installe ; ou donnez --etcd HÔTE:PORT,…"


def add_etcd(parser: argparse.ArgumentParser) -> None:
    """Add where etcd is, and how to speak to it."""
    group = parser.add_argument_group("etcd\u00a0")
    group.add_argument(
        "--etcd",
        type=places,
        metavar="HÔTE:PORT,…",
        help="ses membres, le plus proche d'abord (défaut : un nœud à soi, dans DIR/etcd)",
    )
    group.add_argument(
        "--etcd-prefix",
        type=_prefix,
        default=DEFAULT_PREFIX,
        metavar="NOM",
        help=f"début de ses clefs, un par guichet (défaut : {DEFAULT_PREFIX})",
    )
    group.add_argument("--etcd-ca", metavar="PEM", help="autorité qui a signé etcd ; active TLS vers lui")
    group.add_argument("--etcd-cert", metavar="PEM", help="certificat du serveur pour etcd")
    group.add_argument("--etcd-key", metavar="PEM", help="sa clef privée")


def _prefix(text: str) -> str:
    if not text.strip("/") or not text.isprintable():
        raise argparse.ArgumentTypeError(f"« {text} » : un nom est attendu")
    return text if text.endswith("/") else f"{text}/"


def etcd_program() -> str | None:
    """Return the path of etcd, None where it is not installed."""
    return shutil.which("etcd")


def etcd_of(server: Server, options: argparse.Namespace) -> Cluster:
    """Return the etcd that the options name; without one, start a node that ends with `server`. Raises SpectaclesError.

    Blocks, START at most.
    """
    if named := cluster_of(options):
        return named
    node = server.enter(Node(server.directory))
    server.housekeeping.append(node.tend)
    return Cluster([node.place], options.etcd_prefix, None)


def cluster_of(options: argparse.Namespace) -> Cluster | None:
    """Return the etcd that the options name, None if they name none. Raises UsageError."""
    given = options.etcd_ca or options.etcd_cert or options.etcd_key
    if not options.etcd:
        if given:
            raise UsageError("--etcd-ca, --etcd-cert et --etcd-key demandent --etcd")
        return None
    secure = argparse.Namespace(tls=bool(given), ca=options.etcd_ca, cert=options.etcd_cert, key=options.etcd_key)
    return Cluster(options.etcd, options.etcd_prefix, tls.client_context(secure))


def first_table(directory: RunDirectory) -> bytes:
    """Return the table that an empty etcd is given: the file of the run directory, else its catalogue.

    Raises SpectaclesError.
    """
    if storage.is_missing(directory.fd):
        return catalogue.load(catalogue.default_path(directory.path))
    store = storage.Store(directory.fd, os.path.join(directory.path, storage.FILE_NAME))
    try:
        return store.load()
    finally:
        store.close()


def _death_with(parent: int) -> Callable[[], None]:
    """Return what a child runs before its program, so that it does not outlive the process `parent`, however that ends.

    Of the thread that starts the child, in truth, prctl(2): for the main one.
    """
    prctl = ctypes.CDLL(None).prctl

    def die_with_it() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return die_with_it


class Node:
    """A node of etcd of our own, on UNIX sockets in a run directory that the caller holds. A context manager.

    It ends with this process, however that ends; its data stay. Raises SpectaclesError.
    """

    def __init__(self, directory: RunDirectory) -> None:
        self._directory = directory.fd
        self._path = path = directory.path
        self._die_with_us = _death_with(os.getpid())
        self.place = os.path.join(path, FOLDER, CLIENTS)

    def __enter__(self) -> Node:
        """Start it, and wait until it answers. Blocks, START at most."""
        program = etcd_program()
        if program is None:
            raise SpectaclesError(f"etcd n'est pas installé ici : {_HOW_TO}")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        try:
            with self._folder() as folder:
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                log = os.open(_LOG, flags, 0o600, dir_fd=folder)
                with contextlib.closing(os.fdopen(log, "wb")) as output:
                    self._process = subprocess.Popen(
                        [program, *_OPTIONS],
                        cwd=f"/proc/self/fd/{folder}",
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        preexec_fn=self._die_with_us,
                        start_new_session=True,  # Ctrl-C is for the server, which ends it last
                    )
        except (OSError, subprocess.SubprocessError) as error:
            raise SpectaclesError(f"{self._path}/{FOLDER} : {reason(error)}") from error
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it, by force in the end. Blocks, STOP at most."""
        self._process.terminate()
        try:
            self._process.wait(STOP)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def tend(self) -> None:
        """Raise SpectaclesError if it has ended. Housekeeping."""
        if (code := self._process.poll()) is not None:
            how = f"tué par le signal {-code}" if code < 0 else f"sorti avec le code {code}"
            log_path = os.path.join(self._path, FOLDER, _LOG)
            raise SpectaclesError(f"etcd (PID {self._process.pid}) {how}, voyez {log_path} ; relancez le serveur")

    def _wait(self) -> None:
        asking = Etcd(Cluster([self.place], DEFAULT_PREFIX, None), "")
        deadline = time.monotonic() + START
        while True:
            self.tend()
            try:
                asking.look()
                return
            except UnavailableError as error:
                if time.monotonic() > deadline:
                    raise SpectaclesError(f"etcd ne répond pas, {START:g} s après son départ : {error}") from None
                time.sleep(PAUSE)
            finally:
                asking.close()

    @contextlib.contextmanager
    def _folder(self) -> Iterator[int]:
        with contextlib.suppress(FileExistsError):
            os.mkdir(FOLDER, 0o700, dir_fd=self._directory)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        folder = os.open(FOLDER, flags, dir_fd=self._directory)
        try:
            for name in (CLIENTS, _PEERS):  # left by one that was killed
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
            yield folder
        finally:
            os.close(folder)
