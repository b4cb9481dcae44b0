"""The command line that users script against: the same options for every server, and for every client.

Addresses (--key, --shm-key, --sem-name) default to values derived from the run directory by ftok(3), so that two
people, or two tests, on one host do not meet; the original's 1234 and /semaphore can be given. Every question takes all
of them, so that one script can start any; help shows those that have an effect.
"""

from __future__ import annotations

import argparse
import os
import re
import sys

from spectacles import __version__
from spectacles.common import addresses, invocation
from spectacles.common.errors import EXIT_USAGE, NoServerError, reason
from spectacles.common.spectacle import INT_MAX
from spectacles.common.text import has_control, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 5000
DEFAULT_TIMEOUT = 5.0
MAX_DIGITS = 100
SEMAPHORE_NAME_MAX = 251  # bytes: NAME_MAX without the "sem." of glibc; musl has no prefix, and the same limit
LEVELS = ("debug", "info", "warning", "error")

# What argparse says of a command line, and what we say instead.
_FRENCH = tuple(
    (re.compile(english, re.DOTALL), french)
    for english, french in (
        (r"unrecognized arguments: (.*)", "arguments inconnus : {0}"),
        (r"the following arguments are required: (.*)", "il manque : {0}"),
        (r"one of the arguments (.*) is required", "il faut l'un de : {0}"),
        (r"ambiguous option: (.*) could match (.*)", "option ambiguë : {0} ({1})"),
        (r"expected one argument", "une valeur attendue"),
        (r"expected at most one argument", "une valeur au plus attendue"),
        (r"expected at least one argument", "au moins une valeur attendue"),
        (r"expected (\d+) arguments?", "{0} valeurs attendues"),
        (r"not allowed with argument (.*)", "incompatible avec {0}"),
        (r"ignored explicit argument ['\"](.*)['\"]", "aucune valeur attendue, pas « {0} »"),
        (r"invalid choice: ['\"](.*)['\"] \(choose from (.*)\)", "choix invalide : « {0} » (parmi {1})"),
        (r"invalid \S+ value: ['\"](.*)['\"]", "valeur invalide : « {0} »"),
    )
)


def _in_french(message: str) -> str:
    about = re.fullmatch(r"argument ([^:]+): (.*)", message, re.DOTALL)
    if about:
        return f"{about[1]} : {_in_french(about[2])}"
    for english, french in _FRENCH:
        if found := english.fullmatch(message):
            return french.format(*found.groups())
    return message


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def add_usage(self, usage, actions, groups, prefix=None):  # type: ignore[no-untyped-def]
        super().add_usage(usage, actions, groups, "usage : " if prefix is None else prefix)


class Parser(argparse.ArgumentParser):
    """argparse in French, whose errors are one line and exit code 2.

    By what a subclass may change, and by translating its messages: a program that runs a server in it, and has a
    command line of its own, finds argparse as it was.
    """

    def __init__(self, **kwargs: object) -> None:
        super().__init__(formatter_class=_Formatter, allow_abbrev=False, add_help=False, **kwargs)  # type: ignore[arg-type]
        # argparse adds the colon, which French sets off.
        self._positionals.title, self._optionals.title = "arguments\u00a0", "options\u00a0"
        # What begins so is a value, not an option: -0x5 too.
        self._negative_number_matcher = re.compile(r"-(0x[0-9a-f]+|\d+|\d*\.\d+)$", re.ASCII | re.IGNORECASE)
        self.add_argument("-h", "--help", action="help", default=argparse.SUPPRESS, help="affiche cette aide et quitte")
        self.commands: Any = None
        self._commands: dict[str, Parser] = {}

    def add_subparsers(self, **kwargs: Any) -> Any:
        """Let commands be added, as argparse does; each takes the options of this parser after it, too."""
        commands = super().add_subparsers(**kwargs)
        self.commands, self._commands = commands, commands.choices
        return commands

    def parse_args(self, args: Sequence[str] | None = None) -> argparse.Namespace:  # type: ignore[override]
        """Parse the command line. Exits with code 2 where it makes no sense, with 0 after --help and --version."""
        for command in self._commands.values():
            for action in self._actions:
                if action.option_strings and not set(action.option_strings) & set(command._option_string_actions):
                    again = object.__new__(type(action))  # copy.copy(), whose module imports much
                    # With a default of its own it would replace what was given before the command.
                    vars(again).update(vars(action), default=argparse.SUPPRESS)
                    command._add_action(again)
        return super().parse_args(args)

    def error(self, message: str) -> NoReturn:
        """Print one line and exit with code 2."""
        self.exit(EXIT_USAGE, f"{self.prog} : {printable(_in_french(message))} (--help pour l'aide)\n")


def parse_integer(text: str) -> int | None:
    """Return the number that `text` writes in decimal or, after 0x, in hexadecimal; None for anything else."""
    found = re.fullmatch(r"\s*([+-]?)(0x[0-9a-f]+|[0-9]+)\s*", text, re.ASCII | re.IGNORECASE)
    if not found:
        return None
    digits = found[2]
    if len(digits) > MAX_DIGITS:
        return None  # int() itself refuses some thousands of digits
    return int(found[1] + digits, 16 if digits[:2].lower() == "0x" else 10)


def integer(low: int, high: int) -> Callable[[str], int]:
    """Return a converter of decimal or 0x numbers from `low` to `high`, for argparse."""

    def convert(text: str) -> int:
        value = parse_integer(text)
        if value is None:
            raise argparse.ArgumentTypeError(f"« {text} » n'est pas un entier")
        if not low <= value <= high:
            raise argparse.ArgumentTypeError(f"{value} n'est pas entre {low} et {high}")
        return value

    return convert


def seconds(text: str) -> float:
    """Convert a duration in seconds, above 0 and at most a day, for argparse."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"« {text} » n'est pas une durée en secondes") from None
    if not 0 < value <= 86400:
        raise argparse.ArgumentTypeError(f"{text} secondes : il en faut plus de 0, et 86400 au plus")
    return value


def c_int(text: str) -> int:
    """Convert a number that fits in a C int: what a client may send, sensible or not. For argparse."""
    return integer(-INT_MAX - 1, INT_MAX)(text)


def key(text: str) -> int:
    """Convert a System V key, 32 bits with or without a sign, to a number of addresses. For argparse."""
    value = integer(-INT_MAX - 1, addresses.KEY_MASK)(text)
    if value == 0:
        raise argparse.ArgumentTypeError("0 est IPC_PRIVATE, que personne d'autre ne peut ouvrir : une autre clef")
    return value & addresses.KEY_MASK


def _octal(text: str) -> int:
    try:
        value = int(text, 8)
    except ValueError:
        raise argparse.ArgumentTypeError(f"« {text} » n'est pas un mode en octal") from None
    if value & ~0o666 or value & 0o600 != 0o600:
        raise argparse.ArgumentTypeError(f"« {text} » : un mode entre 0600 et 0666 est attendu")
    return value


def _semaphore_name(text: str) -> str:
    name = text[1:]
    if text[:1] != "/" or name in ("", ".", "..") or "/" in name or " " in name or has_control(name):
        raise argparse.ArgumentTypeError(f"« {text} » : une barre oblique puis un nom sans barre oblique ni espace")
    if (size := len(name.encode())) > SEMAPHORE_NAME_MAX:
        raise argparse.ArgumentTypeError(
            f"« {text[:20]}… » : {size} octets en UTF-8 après la barre, le système en permet {SEMAPHORE_NAME_MAX}"
        )
    return text


def _directory(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("un nom de répertoire est attendu")
    return text


def default_directory() -> str:
    """Return $SPECTACLES_DIR, else ./data."""
    return os.environ.get("SPECTACLES_DIR") or os.path.join(".", "data")


def add_directory(parser: argparse.ArgumentParser, *, shown: bool = True) -> None:
    """Add --dir; it is taken in silence, and help does not list it, unless `shown`."""
    parser.add_argument(
        "--dir",
        type=_directory,
        default=default_directory(),
        metavar="DIR",
        help="répertoire de travail : spectacles.dat, tubes, verrou, journaux (défaut : $SPECTACLES_DIR, sinon ./data)"
        if shown
        else argparse.SUPPRESS,
    )


ADDRESSES = ("--key", "--shm-key", "--sem-name")
_USED_BY_SERVER = {
    "q1_pipes": ("--shm-key", "--sem-name"),
    "q3_threads": ("--key",),
    "q4_thread_per_request": ("--key",),
    "q5_sockets": (),
    "x1_sessions": ("--key", "--shm-key"),
    "x3_cluster": (),
}
_USED_BY_CLIENT = {"q2_msq": ("--key",), "x1_sessions": ("--key",)}


def add_addresses(parser: argparse.ArgumentParser, shown: Sequence[str] = ADDRESSES) -> None:
    """Add the names of kernel objects; those that are not `shown` are taken in silence, and help does not list them."""
    for option, convert, metavar, text in (
        ("--key", key, "CLEF", "clef de la file de messages (défaut : ftok(DIR, 42))"),
        ("--shm-key", key, "CLEF", "clef de la mémoire partagée (défaut : ftok(DIR, 43))"),
        ("--sem-name", _semaphore_name, "/NOM", "nom du sémaphore (défaut : d'après DIR)"),
    ):
        parser.add_argument(option, type=convert, metavar=metavar, help=text if option in shown else argparse.SUPPRESS)


def _add_unused(parser: argparse.ArgumentParser, options: Sequence[str]) -> None:
    """Take, and check, names that this question has no object for, so that one script can start any question."""
    for option in options:
        convert = _semaphore_name if option == "--sem-name" else key
        parser.add_argument(option, type=convert, dest="unused", help=argparse.SUPPRESS)


def _parser(command: str, summary: str, epilog: str) -> Parser:
    """Return what servers and clients have in common."""
    parser = Parser(prog=command, description=summary, epilog=epilog)
    version = f"spectacles {__version__}"
    parser.add_argument("-V", "--version", action="version", version=version, help="affiche la version et quitte")
    return parser


def server_parser(module: str, summary: str, *, queue: bool = True, file: bool = True) -> Parser:
    """Return the parser of the server `module`; a question adds its own options to it.

    queue: whether it has objects in the kernel that a key or a name leads to. file: whether it keeps spectacles.dat.
    """
    command = invocation.name(f"python -m spectacles.{module}.server")
    epilog = (
        f"exemple : {command} --dir /tmp/guichet --log-level warning\n"
        "fin : Ctrl-C. Code de sortie : 0 arrêt demandé, 1 panne, 2 usage, 3 déjà un serveur."
    )
    parser = _parser(command, summary, epilog)
    add_directory(parser)
    if queue:
        add_addresses(parser, _USED_BY_SERVER.get(module, ADDRESSES))
    else:
        _add_unused(parser, ADDRESSES)
    parser.add_argument(
        "--mode", type=_octal, default=0o600, metavar="MODE", help="droits des objets créés, en octal (défaut : 0600)"
    )
    parser.add_argument("--log-level", choices=LEVELS, default="info", help="niveau du journal (défaut : info)")
    parser.add_argument(
        "--no-fsync",
        dest="fsync",
        action="store_false",
        help="acquitte sans attendre le disque : une coupure de courant peut remettre en vente des places vendues"
        if file
        else argparse.SUPPRESS,
    )
    return parser


def add_max_threads(parser: argparse.ArgumentParser) -> None:
    """Add --max-threads, of question 4."""
    parser.add_argument(
        "--max-threads",
        type=integer(1, 10_000),
        default=64,
        metavar="N",
        help="threads de requête à la fois (défaut : 64)",
    )


def add_listener(parser: argparse.ArgumentParser) -> None:
    """Add where question 5 listens, and what it lets clients use up."""
    add_host_port(parser)
    parser.add_argument(
        "--max-clients",
        type=integer(1, 100_000),
        default=1024,
        metavar="N",
        help="connexions à la fois (défaut : 1024)",
    )
    parser.add_argument(
        "--idle-timeout",
        type=seconds,
        default=300.0,
        metavar="SECONDES",
        help="silence toléré d'un client, en secondes (défaut : 300)",
    )
    tls = parser.add_argument_group(f"TLS 1.3 (voir « {invocation.command()} certs »)\u00a0")
    tls.add_argument("--tls-cert", metavar="PEM", help="certificat du serveur ; active TLS")
    tls.add_argument("--tls-key", metavar="PEM", help="clef privée du serveur")
    tls.add_argument("--client-ca", metavar="PEM", help="exige des clients un certificat de cette autorité")


def add_baskets(parser: argparse.ArgumentParser) -> None:
    """Add how long, and how many, seats stay in a basket of x2_basket."""
    parser.add_argument(
        "--hold-seconds",
        type=seconds,
        default=120.0,
        metavar="SECONDES",
        help="temps qu'une place reste au panier sans être confirmée (défaut : 120)",
    )
    parser.add_argument(
        "--max-held",
        type=integer(1, INT_MAX),
        default=INT_MAX,
        metavar="N",
        help="places qu'un panier peut tenir (défaut : toutes celles qui restent)",
    )


def add_connection(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add where the client of question 5 connects, and how. several: --host may be repeated, and be HOST:PORT."""
    if several:
        text = "nom, IPv4 ou IPv6, avec :PORT s'il en faut un autre ; répétable : le suivant sert quand l'un se tait"
        parser.add_argument("--host", action="append", dest="hosts", metavar="HÔTE", help=text)
    add_host_port(parser, host=not several)
    tls = parser.add_argument_group(f"TLS 1.3 (voir « {invocation.command()} certs »)\u00a0")
    tls.add_argument("--tls", action="store_true", help="chiffre la connexion et vérifie le nom du serveur")
    tls.add_argument("--ca", metavar="PEM", help="autorité qui a signé le serveur (défaut : celles du système)")
    tls.add_argument("--cert", metavar="PEM", help="certificat du client")
    tls.add_argument("--key", type=_pem, metavar="PEM", help="clef privée du client")


def _pem(text: str) -> str | None:
    # What is a number is the --key of questions 2 to 4, of a script that starts any question.
    return None if parse_integer(text) is not None else text


def add_host_port(parser: argparse.ArgumentParser, *, host: bool = True) -> None:
    """Add --host and --port, or --port alone."""
    if host:
        text = f"nom, IPv4 ou IPv6 (défaut : {DEFAULT_HOST})"
        parser.add_argument("--host", default=DEFAULT_HOST, metavar="HÔTE", help=text)
    parser.add_argument(
        "--port",
        type=integer(0, 65535),
        default=DEFAULT_PORT,
        metavar="PORT",
        help=f"port TCP (défaut : {DEFAULT_PORT})",
    )


def parse_server(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options of a server. The run directory is created by its lifecycle, so addresses are left for later."""
    options = parser.parse_args(argv)
    options.dir = os.path.abspath(options.dir)
    return options


def client_parser(module: str, summary: str, *, queue: bool = True) -> Parser:
    """Return the parser of the client `module`; a question adds its own options to it. queue: as in server_parser()."""
    command = invocation.name(f"python -m spectacles.{module}.client")
    epilog = (
        f"exemples : {command}{'':16}le menu\n"
        f"           {command} reserve 0 2    une réservation\n"
        "code de sortie : 0 fait, 1 refusé, 2 usage, 3 pas de serveur, occupé ou sans réponse, 130 Ctrl-C."
    )
    parser = _parser(command, summary, epilog)
    add_directory(parser, shown=queue)
    if queue:
        add_addresses(parser, _USED_BY_CLIENT.get(module, ()))
    else:
        _add_unused(parser, [option for option in ADDRESSES if option != "--key"])  # that one is a file here
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=DEFAULT_TIMEOUT,
        metavar="SECONDES",
        help="attente d'une réponse, en secondes (défaut : 5)",
    )
    parser.add_argument("--json", action="store_true", help="une réponse pour les machines (avec une commande)")
    commands = parser.add_subparsers(
        dest="command", metavar="commande", title="commandes (sans commande : le menu)\u00a0"
    )
    commands.add_parser("list", help="tous les spectacles")
    consult = commands.add_parser("consult", help="les places d'un spectacle")
    reserve = commands.add_parser("reserve", help="réserver des places")
    for command_parser in (consult, reserve):
        command_parser.add_argument("show", type=c_int, metavar="SPECTACLE", help="numéro entre crochets, 0 à 9")
    reserve.add_argument("seats", type=c_int, metavar="PLACES", help="nombre de places")
    return parser


def parse_client(parser: Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the options of a client and fill in the addresses. Raises NoServerError if there is no run directory."""
    options = parser.parse_args(argv)
    options.dir = os.path.abspath(options.dir)
    if options.json and options.command is None:
        parser.error("--json demande une commande : list, consult ou reserve")
    if "shm_key" in options:
        try:
            addresses.resolve(options)
        except OSError as error:
            raise NoServerError(f"aucun serveur : {reason(error)}") from None
    return options


def stdout_is_closed() -> None:
    """Silence what is left in the buffer of a closed standard output, so that the interpreter can end quietly."""
    if sys.stdout is not None:
        with open(os.devnull, "w") as null:
            os.dup2(null.fileno(), sys.stdout.fileno())
