"""`spectacles table`: show and change spectacles.dat while no server works on it, a table in etcd at any time."""

from __future__ import annotations

import os

import sysv_ipc

from spectacles.common import addresses, catalogue, cli, invocation, menu, storage
from spectacles.common.directory import RunDirectory
from spectacles.common.errors import HeldError, SpectaclesError, UsageError, reason
from spectacles.common.lifecycle import program
from spectacles.common.spectacle import INT_MAX, MAX_SPECTACLE, RECORD, RECORD_SIZE, unpack_table
from spectacles.q1_pipes.channel import has_server
from spectacles.q2_msq.takeover import live_user
from spectacles.x3_cluster.node import FOLDER, add_etcd, cluster_of
from spectacles.x3_cluster.table import open_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

    from spectacles.x3_cluster.etcd import Cluster

FIELDS = ("id", "nom", "date", "places")


def _parser() -> cli.Parser:
    command = invocation.name("spectacles table")
    parser = cli.Parser(
        prog=command,
        description="Montre et change la table des spectacles. Refuse tant qu'un serveur travaille sur le répertoire,"
        " sauf une table dans etcd (x3), qui se change sous les serveurs.",
        epilog=f"exemples : {command} show\n"
        f"           {command} set 0 --places 200 --dir /tmp/guichet\n"
        f"           {command} import saison.csv\n"
        f"           {command} show --etcd 10.0.0.1:2379\n"
        "code de sortie : 0 fait, 1 fichier impossible, 2 usage, 3 un serveur y travaille.",
    )
    cli.add_directory(parser)
    add_etcd(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="commande", title="commandes\u00a0")
    show = commands.add_parser("show", help="montre la table")
    commands.add_parser("reset", help="la recrée depuis le catalogue")
    change = commands.add_parser("set", help="change un spectacle, ou en ajoute un")
    import_ = commands.add_parser("import", help="la remplace par un catalogue")
    show.add_argument("--json", action="store_true", help="pour les machines")
    change.add_argument("slot", type=cli.integer(0, MAX_SPECTACLE - 1), metavar="CASE", help="0 à 9")
    change.add_argument("--id", type=cli.integer(1, INT_MAX), metavar="N", help="identifiant")
    change.add_argument("--nom", help="titre, 49 octets au plus en UTF-8")
    change.add_argument("--date", help="date, 10 octets au plus")
    change.add_argument("--places", type=cli.integer(0, INT_MAX), metavar="N", help="places restantes")
    change.add_argument("--empty", action="store_true", help="vide la case")
    import_.add_argument("file", metavar="FICHIER", help="catalogue en .toml, ou tableur en .csv (« CSV UTF-8 »)")
    return parser


@program
def main(argv: list[str] | None = None) -> None:
    """Run the command. Raises HeldError (exit code 3) while a server runs on the directory."""
    options = _parser().parse_args(argv)
    path = os.path.join(options.dir, storage.FILE_NAME)
    if options.command == "import" and not os.path.isfile(options.file):
        there = os.path.exists(options.file)
        raise UsageError(f"{options.file} : {'pas un fichier ordinaire' if there else 'aucun fichier de ce nom'}")
    if options.command == "show" and not options.etcd and not os.path.isdir(options.dir):
        raise SpectaclesError(f"{options.dir} : aucun répertoire de ce nom")
    cluster = cluster_of(options)
    if cluster is not None or os.path.isdir(os.path.join(options.dir, FOLDER)):
        _in_etcd(options, cluster)
        return
    with RunDirectory(options.dir) as directory:
        if options.command != "show" and (who := _foreign_server(directory)):
            raise HeldError(f"{options.dir} : {who} ; arrêtez-le d'abord")
        if options.command in ("reset", "import"):
            source = options.file if options.command == "import" else catalogue.default_path(options.dir)
            remarks: list[str] = []
            table = catalogue.load(source, remarks)
            weaker = _create(directory.fd, path, table)
            print(*remarks, sep="\n", end="\n" * bool(remarks))
            _show(table, as_json=False)  # so that a wrong guess is seen at once
            print(*(f"attention : {sentence}" for sentence in weaker), f"{path} : écrit", sep="\n")
            return
        store = storage.Store(directory.fd, path, lenient=True)
        try:
            if options.command == "set":
                store.sync(store.write(options.slot * RECORD_SIZE, _changed(store.load(lenient=True), options)))
            table = store.load(lenient=True)
            _show(table, as_json=options.command == "show" and options.json)
            if options.command == "show":
                store.load()  # says what no server would serve
            elif problem := storage.check_table(table):
                print(f"Écrit ; reste à réparer, {problem}")
        finally:
            store.close()


def _in_etcd(options: Namespace, cluster: Cluster | None) -> None:
    """Do the same with a table in etcd. Every change is one transaction, whatever servers do meanwhile."""
    with open_table(options.dir, cluster, options.etcd_prefix) as shared:
        if options.command == "show":
            table = shared.snapshot()
            _show(table, as_json=options.json)
        else:
            remarks: list[str] = []
            if options.command == "set":
                where = slice(options.slot * RECORD_SIZE, (options.slot + 1) * RECORD_SIZE)
                table = shared.rewrite(lambda old: old[: where.start] + _changed(old, options) + old[where.stop :])
            else:
                source = options.file if options.command == "import" else catalogue.default_path(options.dir)
                new = catalogue.load(source, remarks)
                table = shared.rewrite(lambda old: new)
            print(*remarks, sep="\n", end="\n" * bool(remarks))
            _show(table, as_json=False)
            print(f"etcd, {shared.where} : écrit")
    if problem := storage.check_table(table):
        raise SpectaclesError(
            f"etcd, {shared.where} : {problem} ; « {invocation.command()} table set » répare une case"
        )


def _create(directory_fd: int, path: str, table: bytes) -> list[str]:
    """Write the table, and return which promises the file system does not keep."""
    try:
        return storage.create(directory_fd, table)
    except OSError as error:
        raise SpectaclesError(
            f"{path} : {reason(error)} ; rien n'a été modifié (un programme l'a-t-il ouvert, le disque est-il"
            " plein ? sinon choisissez un --dir sur un disque local)"
        ) from error


def _foreign_server(directory: RunDirectory) -> str | None:
    """Say which server in C works on the directory, None if none does: it locks nothing.

    One of question 5 cannot be told: nothing of it but a port leads from here to there.
    """
    if has_server(directory.fd):
        return "un serveur y lit les tubes"
    key = addresses.directory_key(directory.path, addresses.PROJECT_MSQ)
    try:
        user = live_user(sysv_ipc.MessageQueue(key))
    except (sysv_ipc.Error, OSError):  # no queue, or none of ours
        return None
    return f"le processus {user} se sert de la file {key:#x}" if user else None


def _changed(table: bytes, options: Namespace) -> bytes:
    """Return the 72 bytes of the slot after `table set`: the bytes of what is not given stay. Raises UsageError."""
    if options.empty:
        if any(getattr(options, field) is not None for field in FIELDS):
            raise UsageError("--empty vide la case : ni --id, ni --nom, ni --date, ni --places avec")
        return bytes(RECORD_SIZE)
    if all(getattr(options, field) is None for field in FIELDS):
        raise UsageError("rien à changer : donnez --id, --nom, --date, --places ou --empty")
    slot = options.slot
    before = RECORD.unpack_from(table, slot * RECORD_SIZE)
    given = {field: getattr(options, field) for field in FIELDS}
    known = before[0] != 0
    # What is there already need not pass for something that a person writes into a catalogue.
    anything = {"id": 1, "nom": "x", "date": "x", "places": 0} if known else dict.fromkeys(FIELDS)
    entry: dict[str, object] = {"case": slot}
    entry |= {field: anything[field] if given[field] is None else given[field] for field in FIELDS}
    try:
        written = RECORD.unpack_from(catalogue.parse([entry]), slot * RECORD_SIZE)
    except UsageError as error:
        raise UsageError(str(error).replace("spectacle n° 1", f"case {slot}")) from None
    keep = [known and given[field] is None for field in FIELDS]
    return RECORD.pack(*(old if kept else new for old, new, kept in zip(before, written, keep, strict=True)))


def _show(table: bytes, *, as_json: bool) -> None:
    shows = unpack_table(table)
    if as_json:
        print(menu.json_text(menu.shows_answer(shows)))
    else:
        print("\n".join(menu.line(slot, show) for slot, show in shows) or "Aucun spectacle")
