"""Write docs/progression.md: what changes in the server from one question to the next, taken from the code.

    python tools/progression.py            write the page
    python tools/progression.py --check    write nothing; exit code 1, with a diff, if the page is stale

The prose is in progression.md.in beside this script. In it, a line that is only a marker is replaced:
{{table}} by the number of changed lines of each step, {{drawing Q}} by the drawing in the docstring of Q's server,
{{diff P Q}} by the diff from P's server to Q's.
"""

from __future__ import annotations

import ast
import difflib
import io
import itertools
import re
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "progression.md"
TEMPLATE = Path(__file__).resolve().with_name("progression.md.in")
QUESTIONS = ("q1_pipes", "q2_msq", "q3_threads", "q4_thread_per_request", "q5_sockets")
STEPS = tuple(itertools.pairwise(QUESTIONS))
FURTHER = {  # what goes further than a question, and which; shown in docs/further.md
    "x1_sessions": "q2_msq",
    "x2_basket": "q5_sockets",
    "x3_cluster": "q5_sockets",
}


def server_path(question: str) -> Path:
    """Return the path of the server of `question`."""
    return ROOT / "spectacles" / question / "server.py"


def docstring(question: str) -> str:
    """Return the docstring of the server of `question`, "" if it has none."""
    return ast.get_docstring(ast.parse(server_path(question).read_text(encoding="utf-8")), clean=False) or ""


def drawing(question: str) -> list[str]:
    """Return the lines of the first indented block of the server's docstring, without their common margin."""
    lines: list[str] = []
    for line in docstring(question).splitlines()[1:]:
        if line.startswith("    ") or (lines and not line.strip()):
            lines.append(line.rstrip())
        elif lines:
            break
    while lines and not lines[-1]:
        lines.pop()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line), default=0)
    return [line[margin:] for line in lines]


def functions(question: str) -> list[str]:
    """Return the names of the functions of the server, in their order."""
    tree = ast.parse(server_path(question).read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]


def shown_lines(question: str) -> list[str]:
    """Return the lines of the server without its module docstring: what the diffs show."""
    source = server_path(question).read_text(encoding="utf-8")
    return source[source.index("from __future__") :].splitlines()


def code_lines(source: str) -> list[str]:
    """Return the lines of `source` that hold code: without docstrings, comments and blank lines."""
    lines = source.splitlines()
    dropped: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node) is not None:
            dropped.update(range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    return [line for number, line in enumerate(lines, 1) if number not in dropped and line.strip()]


def changed(before: list[str], after: list[str]) -> tuple[int, int]:
    """Return how many lines a smallest diff removes and how many it adds (by longest common subsequence)."""
    row = [0] * (len(after) + 1)
    for old in before:
        previous, row = row, [0]
        for index, new in enumerate(after):
            row.append(previous[index] + 1 if old == new else max(previous[index + 1], row[index]))
    return len(before) - row[-1], len(after) - row[-1]


def changed_lines(before: str, after: str) -> tuple[int, int]:
    """Return how many lines of code go and how many come from the server of one question to that of another."""
    sources = (server_path(question).read_text(encoding="utf-8") for question in (before, after))
    return changed(*map(code_lines, sources))


def page() -> str:
    """Return the whole page. Raises ValueError for a marker it does not know."""
    lines: list[str] = []
    for line in TEMPLATE.read_text(encoding="utf-8").splitlines():
        marker = re.fullmatch(r"\{\{(.*)\}\}", line)
        lines += shown(*marker[1].split()) if marker else [line]
    return "\n".join(lines) + "\n"


def shown(what: str, *questions: str) -> list[str]:
    """Return what stands for a marker: the lines of the `table`, of a `drawing`, of a `diff`. Raises ValueError."""
    if what == "table":
        rows = ["| from | to | lines that go | lines that come | changed |", "|---|---|--:|--:|--:|"]
        for before, after in STEPS:
            gone, come = changed_lines(before, after)
            rows.append(f"| `{before}` | `{after}` | {gone} | {come} | {max(gone, come)} |")
        return rows
    if what == "drawing":
        return ["```text", *drawing(*questions), "```"]
    if what == "diff":
        before, after = questions
        old, new = (str(server_path(question).relative_to(ROOT)) for question in questions)
        diff = difflib.unified_diff(shown_lines(before), shown_lines(after), old, new, lineterm="")
        # Line numbers would change with every docstring, and point nowhere: the docstring is left out.
        return ["```diff", *("@@" if line.startswith("@@") else line.rstrip() for line in diff), "```"]
    raise ValueError(f"{TEMPLATE.name}: unknown marker {what!r}")


def main(arguments: list[str]) -> int:
    """Run the script and return its exit code."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wanted = page()
    if not arguments:
        PAGE.write_text(wanted, encoding="utf-8")
        return 0
    found = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    if found == wanted:
        return 0
    name = str(PAGE.relative_to(ROOT))
    sys.stdout.writelines(difflib.unified_diff(found.splitlines(True), wanted.splitlines(True), name, "from the code"))
    print(f"{name} is stale: run python tools/progression.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
