"""`spectacles table`: look at and change spectacles.dat while no server works on it."""

from __future__ import annotations

import os

from spectacles.common import catalogue, cli, menu, storage
from spectacles.common.directory import RunDirectory
from spectacles.common.errors import SpectaclesError, UsageError
from spectacles.common.lifecycle import program
from spectacles.common.spectacle import INT_MAX, MAX_SPECTACLE, RECORD_SIZE, unpack_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from argparse import Namespace

FIELDS = ("id", "nom", "date", "places")


def _parser() -> cli.Parser:
    parser = cli.Parser(
        prog="spectacles table",
        description="Montre et change la table des spectacles. Refuse tant qu'un serveur travaille sur le répertoire.",
        epilog="exemples : spectacles table show\n"
        "           spectacles table set 0 --places 200\n"
        "           spectacles table import saison.csv\n"
        "code de sortie : 0 fait, 1 fichier impossible, 2 usage, 3 un serveur y travaille.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="commande", title="commandes\u00a0")
    show = commands.add_parser("show", help="montre la table", prog="spectacles table show")
    reset = commands.add_parser("reset", help="la recrée depuis le catalogue", prog="spectacles table reset")
    change = commands.add_parser("set", help="change un spectacle, ou en ajoute un", prog="spectacles table set")
    import_ = commands.add_parser("import", help="la remplace par un catalogue", prog="spectacles table import")
    for command in (show, reset, change, import_):
        cli.add_directory(command)
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
    if options.command == "show" and not os.path.isdir(options.dir):
        raise SpectaclesError(f"{options.dir} : aucun répertoire de ce nom")
    with RunDirectory(options.dir) as directory:
        if options.command == "reset":
            storage.create(directory.fd, catalogue.load(catalogue.default_path(options.dir)))
        elif options.command == "import":
            remarks: list[str] = []
            table = catalogue.load(options.file, remarks)
            storage.create(directory.fd, table)
            print(*remarks, sep="\n", end="\n" * bool(remarks))
            _show(table, as_json=False)  # so that a wrong guess is seen at once
        else:
            store = storage.Store(directory.fd, path)
            try:
                if options.command == "set":
                    record = _changed(store.load(), options)
                    store.sync(store.write(options.slot * RECORD_SIZE, record))
                _show(store.load(), as_json=options.command == "show" and options.json)
            finally:
                store.close()
            return
        print(f"{path} : écrit")


def _changed(table: bytes, options: Namespace) -> bytes:
    """Return the 72 bytes of the slot after `table set`. Raises UsageError."""
    if options.empty:
        if any(getattr(options, field) is not None for field in FIELDS):
            raise UsageError("--empty vide la case : ni --id, ni --nom, ni --date, ni --places avec")
        return bytes(RECORD_SIZE)
    if all(getattr(options, field) is None for field in FIELDS):
        raise UsageError("rien à changer : donnez --id, --nom, --date, --places ou --empty")
    slot = options.slot
    known = dict(unpack_table(table)).get(slot)
    entry: dict[str, object] = {"case": slot}
    for field in FIELDS:
        given = getattr(options, field)
        if given is None and known is not None:
            given = getattr(known, field)
        entry[field] = given
    try:
        return catalogue.parse([entry])[slot * RECORD_SIZE : (slot + 1) * RECORD_SIZE]
    except UsageError as error:
        raise UsageError(str(error).replace("spectacle n° 1", f"case {slot}")) from None


def _show(table: bytes, *, as_json: bool) -> None:
    shows = unpack_table(table)
    if as_json:
        print(menu.json_text(menu.shows_answer(shows)))
    else:
        print("\n".join(menu.line(slot, show) for slot, show in shows) or "Aucun spectacle")
