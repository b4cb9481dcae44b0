"""The `spectacles` command: demo, server, client, what administers, and the tools of the lab."""

from __future__ import annotations

import importlib
import sys

from spectacles import __version__
from spectacles.common import invocation
from spectacles.common.errors import EXIT_USAGE
from spectacles.common.lifecycle import command, program
from spectacles.common.text import printable

QUESTIONS = ("q1_pipes", "q2_msq", "q3_threads", "q4_thread_per_request", "q5_sockets")
FURTHER = ("x1_sessions", "x2_basket", "x3_cluster")  # what the original only thinks about

COMMANDS = {  # in the order in which people come to use them
    "demo": ("spectacles.lab.demo", "fait tourner chaque question avec de vrais clients, puis compte les places"),
    "server": ("", "Q [options] : le serveur de la question Q (1 à 5, q1_pipes..., ou x1)"),
    "client": ("", "Q [options] : son client"),
    "table": ("spectacles.admin.table", "montre ou change spectacles.dat : show, reset, set, import"),
    "clean": ("spectacles.admin.clean", "retire ce que des serveurs morts ont laissé"),
    "compare": ("spectacles.lab.compare", "mesure les questions côte à côte, puis les compare"),
    "explore": ("spectacles.lab.explore", "essaie tous les entrelacements d'un scénario, montre celui qui échoue"),
    "watch": ("spectacles.lab.watch", "montre en direct qui attend quoi, et ce que contient chaque objet"),
    "trace": ("spectacles.lab.trace", "enregistre un échange et le dessine : qui a envoyé quoi à qui"),
    "break": ("spectacles.lab.hazards", "joue les périls connus, cassés puis sains, sous le même ordre imposé"),
    "check": ("spectacles.lab.check", "juge un programme client-serveur : ses défauts, et leurs preuves"),
    "certs": ("spectacles.admin.certs", "crée une autorité et des certificats de développement pour la question 5"),
    "include": ("spectacles.admin.include", "dit où est spectacles.h, pour un programme en C"),
    "help": ("", "[COMMANDE] : ce texte, ou l'aide d'une commande"),
}


def usage() -> str:
    """Return the help of the command itself."""
    command = invocation.command()
    lines = "\n".join(f"  {name:<8} {summary}" for name, (_, summary) in COMMANDS.items())
    return f"""usage : {command} COMMANDE [options]

{lines}

exemples :
  {command} demo
  {command} server 2 --dir /tmp/guichet
  {command} client 2 --dir /tmp/guichet reserve 0 2

« {command} COMMANDE --help » en dit plus. Version : -V."""


def question(text: str) -> str | None:
    """Return the package that "2", "q2" or "q2_msq" names, or "x1" or "x1_sessions"; None if none."""
    wanted = text.lower().removeprefix("q")
    further = next((name for name in FURTHER if text.lower() in (name, name.partition("_")[0])), None)
    return next((name for name in QUESTIONS if wanted and wanted in (name[1], name[1:])), further)


@program
def main(argv: list[str] | None = None) -> int:
    """Run one command; its exit code is that of common.errors."""
    spectacles = invocation.command()
    name, *rest = (sys.argv[1:] if argv is None else argv) or [""]
    if name == "help" and rest and rest[0] not in ("-h", "--help"):
        name, *rest = (*rest, "--help")
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        print(f"spectacles {__version__}")
        return 0
    if name not in COMMANDS:
        problem = f"commande inconnue : {name}" if name else "il manque une commande"
        return _refuse(spectacles, f"{problem} (parmi {', '.join(COMMANDS)} ; --help pour l'aide)")
    typed, module = f"{spectacles} {name}", COMMANDS[name][0]
    if name in ("server", "client"):
        if rest and rest[0] in ("-h", "--help"):
            print(f"usage : {typed} Q [options]\n\nQ : 1 à 5, ou {', '.join(QUESTIONS)}")
            print(f"suites : {', '.join(FURTHER)} (ou {', '.join(name.partition('_')[0] for name in FURTHER)})")
            print(f"« {typed} 2 --help » dit les options de la question 2.")
            return 0
        package = question(rest[0]) if rest else None
        if package is None:
            problem = f"quelle question ? 1 à 5, pas « {rest[0]} »" if rest else "il manque la question, 1 à 5"
            return _refuse(typed, f"{problem} (--help pour l'aide)")
        typed, module, rest = f"{typed} {rest[0]}", f"spectacles.{package}.{name}", rest[1:]
    with invocation.typed(typed):
        result: int = importlib.import_module(module).main(rest)
    return result


def run() -> int:
    """What the script `spectacles` calls."""
    return command(main)


def _refuse(typed: str, problem: str) -> int:
    print(f"{typed} : {printable(problem)}", file=sys.stderr)
    return EXIT_USAGE


if __name__ == "__main__":
    sys.exit(run())
