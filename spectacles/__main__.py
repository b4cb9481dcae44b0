"""The `spectacles` command: demo, server, client, table, clean, and the tools of the lab."""

from __future__ import annotations

import importlib
import sys

from spectacles import __version__
from spectacles.common.errors import EXIT_USAGE
from spectacles.common.lifecycle import command, program

QUESTIONS = ("q1_pipes", "q2_msq", "q3_threads", "q4_thread_per_request", "q5_sockets")

COMMANDS = {
    "demo": ("spectacles.lab.demo", "fait tourner chaque question avec de vrais clients, puis compte les places"),
    "server": ("", "Q [options] : le serveur de la question Q (1 à 5, ou q1_pipes...)"),
    "client": ("", "Q [options] : son client"),
    "table": ("spectacles.admin.table", "montre ou change spectacles.dat : show, reset, set, import"),
    "compare": ("spectacles.lab.compare", "mesure les questions côte à côte, puis les compare"),
    "certs": ("spectacles.admin.certs", "crée une autorité et des certificats de développement pour la question 5"),
    "clean": ("spectacles.admin.clean", "retire ce que des serveurs morts ont laissé"),
}

USAGE = "usage : spectacles COMMANDE [options]\n\n" + "\n".join(
    f"  {name:<8} {summary}" for name, (_, summary) in COMMANDS.items()
)
EXAMPLES = """
exemples :
  spectacles demo
  spectacles server 2 --dir /tmp/guichet
  spectacles client 2 --dir /tmp/guichet reserve 0 2

« spectacles COMMANDE --help » en dit plus."""


def question(text: str) -> str | None:
    """Return the package that "2", "q2" or "q2_msq" names, None if none."""
    wanted = text.lower().removeprefix("q")
    return next((name for name in QUESTIONS if wanted and wanted in (name[1], name[1:])), None)


@program
def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code is that of common.errors."""
    arguments = sys.argv[1:] if argv is None else argv
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("-h", "--help"):
        print(USAGE + "\n" + EXAMPLES)
        return 0
    if name == "--version":
        print(f"spectacles {__version__}")
        return 0
    if name not in COMMANDS:
        problem = f"commande inconnue : {name}" if name else "il manque une commande"
        print(f"spectacles : {problem} (parmi {', '.join(COMMANDS)} ; --help pour l'aide)", file=sys.stderr)
        return EXIT_USAGE
    module = COMMANDS[name][0]
    if name in ("server", "client"):
        if rest and rest[0] in ("-h", "--help"):
            print(f"usage : spectacles {name} Q [options]\n\nQ : 1 à 5, ou {', '.join(QUESTIONS)}")
            print(f"« spectacles {name} 2 --help » dit les options de la question 2.")
            return 0
        package = question(rest[0]) if rest else None
        if package is None:
            problem = f"quelle question ? 1 à 5, pas « {rest[0]} »" if rest else "il manque la question, 1 à 5"
            print(f"spectacles {name} : {problem} (--help pour l'aide)", file=sys.stderr)
            return EXIT_USAGE
        module, rest = f"spectacles.{package}.{name}", rest[1:]
    result: int = importlib.import_module(module).main(rest)
    return result


def run() -> int:
    """What the script `spectacles` calls."""
    return command(main)


if __name__ == "__main__":
    sys.exit(run())
