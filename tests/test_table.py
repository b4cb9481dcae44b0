"""`spectacles table`: look at and change the catalogue while no server works on it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spectacles.common.catalogue import default_path, load, parse
from spectacles.common.errors import UsageError
from spectacles.common.protocol import LIST, LIST_REPLY, LIST_REQUEST
from spectacles.common.spectacle import INT_MAX, RECORD, RECORD_SIZE, TABLE_SIZE, Spectacle, unpack_table
from spectacles.common.storage import check_table
from spectacles.lab.programs.process import ServerProcess
from spectacles.q2_msq.channel import ClientQueue
from tests import helpers


def table(directory: Path, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `spectacles table`."""
    return helpers.run([sys.executable, "-m", "spectacles", "table", command, "--dir", str(directory), *arguments])


def test_show_set_reset(directory: Path) -> None:
    assert table(directory, "reset").returncode == 0
    done = table(directory, "show")
    assert done.stdout.splitlines()[5] == "[5] Improvisation à trois | 2027-03-08 | 12 places"
    assert len(done.stdout.splitlines()) == helpers.SHOWS
    assert json.loads(table(directory, "show", "--json").stdout)["shows"][1] == {
        "index": 1,
        "id": 2,
        "nom": "Œdipe roi",
        "date": "2027-01-22",
        "places": 80,
    }
    done = table(directory, "set", "0", "--places", "7")
    assert "[0] Le Malade imaginaire | 2027-01-15 | 7 places" in done.stdout
    assert table(directory, "set", "9", "--nom", "Été", "--date", "bientôt", "--places", "1").returncode == 0
    assert table(directory, "set", "1", "--empty").returncode == 0
    shows = helpers.read_table(directory)
    assert sorted(shows) == [0, 2, 3, 4, 5, 9]
    assert shows[9] == Spectacle(10, "Été", "bientôt", 1)
    assert table(directory, "reset").returncode == 0
    assert (directory / "spectacles.dat").read_bytes() == load(default_path("/nowhere"))
    assert sorted(path.name for path in directory.iterdir()) == ["spectacles.dat"]


def test_what_was_set_is_what_a_server_serves(server: helpers.Servers, question: str, directory: Path) -> None:
    assert table(directory, "reset").returncode == 0
    assert table(directory, "set", "8", "--nom", "Fin", "--date", "hier", "--places", "2").returncode == 0
    guichet = server(question, directory=directory)
    assert guichet.client("reserve", "8", "2").returncode == 0
    guichet.stop()
    assert "[8] Fin | hier | 0 places" in table(directory, "show").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("show",),
        ("reset",),
        ("set", "0", "--places", "1"),
        ("import", str(helpers.ROOT / "data" / "spectacles.toml")),
    ],
    ids=lambda words: words[0],
)
def test_refused_while_a_server_runs(server: helpers.Servers, arguments: tuple[str, ...]) -> None:
    """Code 3, and who holds the directory; nothing changed. (Fails without RunDirectory's lock.)"""
    guichet = server("q4_thread_per_request")
    before = (guichet.directory / "spectacles.dat").read_bytes()
    done = table(guichet.directory, *arguments)
    assert done.returncode == 3, done
    assert str(guichet.pid) in helpers.one_line(done)
    assert (guichet.directory / "spectacles.dat").read_bytes() == before
    assert guichet.client("list").returncode == 0


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("set",),
        ("set", "10", "--places", "1"),
        ("set", "-1", "--places", "1"),
        ("set", "0", "--places", "-1"),
        ("set", "0", "--places", "2147483648"),
        ("set", "0", "--id", "0"),
        ("set", "0", "--nom", "é" * 25),
        ("set", "0", "--nom", ""),
        ("set", "0", "--nom", "a\x1b[2Jb"),
        ("set", "0", "--date", "2027-01-150"),
        ("set", "9", "--nom", "sans date ni places"),
        ("set", "0"),
        ("set", "0", "--empty", "--nom", "x"),
        ("import",),
        ("import", "nulle-part.toml"),
        ("import", "/dev/null"),
    ],
    ids=lambda words: " ".join(words).replace("\x1b", "ESC")[:30],
)
def test_refused_changes(directory: Path, arguments: tuple[str, ...]) -> None:
    """One line, code 2, nothing changed."""
    (directory / "spectacles.dat").write_bytes(load(default_path("/nowhere")))
    done = table(directory, *arguments) if arguments else helpers.run([sys.executable, "-m", "spectacles", "table"])
    assert done.returncode == 2, done
    helpers.one_line(done)
    assert (directory / "spectacles.dat").read_bytes() == load(default_path("/nowhere"))


def test_no_table_yet(directory: Path, tmp_path: Path) -> None:
    """`show` and `set` create nothing."""
    for command in (("show",), ("set", "0", "--places", "1")):
        done = table(directory, *command)
        assert done.returncode == 1, done
        helpers.one_line(done)
    done = table(tmp_path / "nulle-part", "show")
    assert done.returncode == 1, done
    assert not (tmp_path / "nulle-part").exists()
    assert list(directory.iterdir()) == []


GOOD = {
    "a.toml": '[[spectacle]]\nnom = "Été"\ndate = "demain"\nplaces = 3\n[[spectacle]]\ncase = 7\nid = 70\nnom = "B"\n'
    'date = "x"\nplaces = 0\n',
    "a.csv": "nom,date,places,case,id\nÉté,demain,3,,\nB,x,0,7,70\n",
    "semicolon.csv": "nom;date;places;case;id\nÉté;demain;3;;\nB;x;0;7;70\n",
    "bom.csv": "\ufeffid,case,nom,date,places\r\n,,Été,demain,3\r\n70,7,B,x,0\r\n",
}


@pytest.mark.parametrize("name", GOOD)
def test_import(directory: Path, name: str) -> None:
    path = directory / name
    path.write_bytes(GOOD[name].encode())
    done = table(directory, "import", str(path))
    assert done.returncode == 0, done
    assert helpers.read_table(directory) == {0: Spectacle(1, "Été", "demain", 3), 7: Spectacle(70, "B", "x", 0)}


SHOW = '[[spectacle]]\nnom = "A"\ndate = "x"\nplaces = 1\n'
BAD: dict[str, str | bytes] = {
    "nothing.toml": "",
    "nothing.csv": "nom,date,places\n",
    "eleven.toml": SHOW * 11,
    "twice.toml": SHOW + SHOW + "case = 0\n",
    "far.toml": SHOW + "case = 10\n",
    "negative.toml": SHOW.replace("1", "-1"),
    "huge.toml": SHOW.replace("1", "2147483648"),
    "float.toml": SHOW.replace("1", "1.0"),
    "true.toml": SHOW.replace("1", "true"),
    "text.toml": SHOW.replace("1", '"beaucoup"'),
    "zero-id.toml": SHOW + "id = 0\n",
    "no-name.toml": SHOW.replace('nom = "A"\n', ""),
    "blank.toml": SHOW.replace('"A"', '"  "'),
    "no-places.toml": SHOW.replace("places = 1\n", ""),
    "long.toml": SHOW.replace('"A"', '"' + "é" * 25 + '"'),
    "long-date.toml": SHOW.replace('"x"', '"01/01/20270"'),
    "control.toml": SHOW.replace('"A"', '"a\\u001bb"'),
    "field.toml": SHOW + "prix = 3\n",
    "list.toml": "spectacle = 3\n",
    "list2.toml": "spectacle = [1, 2]\n",
    "syntax.toml": "[[spectacle\n",
    "latin1.toml": b'[[spectacle]]\nnom = "\xe9t\xe9"\n',
    "missing.csv": "nom,date\nA,x\n",
    "extra.csv": "nom,date,places\nA,x,1,2\n",
    "text.csv": "nom,date,places\nA,x,beaucoup\n",
    "quotes.csv": 'nom,date,places\n"A"b,x,1\n',
    "a.json": "[]",
}


@pytest.mark.parametrize("name", BAD)
def test_import_refuses(tmp_path: Path, name: str) -> None:
    """Each with the name of the file, and of the entry where there is one."""
    path = tmp_path / name
    content = BAD[name]
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        load(str(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refused_import_changes_nothing(directory: Path) -> None:
    """The command, once: one line, code 2, the table and the lock as they were."""
    (directory / "spectacles.dat").write_bytes(load(default_path("/nowhere")))
    path = directory / "trop.toml"
    path.write_text(str(BAD["eleven.toml"]))
    done = table(directory, "import", str(path))
    assert done.returncode == 2, done
    assert "10 spectacles au plus" in helpers.one_line(done)
    assert (directory / "spectacles.dat").read_bytes() == load(default_path("/nowhere"))


def test_directory_as_catalogue(tmp_path: Path) -> None:
    done = table(tmp_path, "import", str(tmp_path))
    assert done.returncode == 2, done


# Entries that may make sense, or not: whatever parse() accepts must be a possible table that says the same.
field = st.one_of(st.none(), st.integers(), st.booleans(), st.floats(), st.text(max_size=60), st.lists(st.integers()))
text = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20)
entry = st.fixed_dictionaries(
    {"nom": text | field, "date": text | field, "places": st.integers(0, INT_MAX) | field},
    optional={"id": st.integers(1, 100) | field, "case": st.integers(0, 9) | field, "prix": field},
)


@given(st.lists(entry, max_size=12))
def test_parse_gives_a_possible_table_or_one_sentence(entries: list[dict[str, object]]) -> None:
    try:
        result = parse(entries)
    except UsageError:
        return  # one sentence: test_import_refuses looks at these
    assert len(result) == TABLE_SIZE
    assert check_table(result) is None
    shows = [show for _, show in unpack_table(result)]
    assert len(shows) == len(entries)
    assert sorted(show.nom for show in shows) == sorted(str(each["nom"]).strip() for each in entries)
    assert sorted(show.places for show in shows) == sorted(int(str(each["places"])) for each in entries)


# Tables as C programs leave them


def written_by_c(directory: Path, nom: bytes, *, date: bytes = b"2027-01-15", id_: int = 1, places: int = 77) -> bytes:
    """Write a table with one such show, and return its bytes."""
    content = RECORD.pack(id_, nom, date, places) + bytes(TABLE_SIZE - RECORD_SIZE)
    (directory / "spectacles.dat").write_bytes(content)
    return content


@pytest.mark.parametrize(
    ("nom", "shown"),
    [
        ("L'Illusion comique, suivi de : Le Menteur (matinée)".encode()[:49], "Le Menteur (matin\ufffd"),
        ("Été".encode("latin-1"), "\ufffdt\ufffd"),
        (b"a\x1b[2J\x07b\x9b\xc2\x9bc\xe2\x80\xa8d", "a\\x1b[2J\\x07b\ufffd\\x9bc\\u2028d"),
        ("Le\u00a0Cid\u202f!\u200d".encode(), "Le\u00a0Cid\u202f!\u200d"),
    ],
    ids=["cut", "Latin-1", "controls", "spaces"],
)
def test_text_that_is_not_utf8(server: helpers.Servers, question: str, directory: Path, nom: bytes, shown: str) -> None:
    """Served, shown as far as can be, nothing that drives a terminal; its bytes stay as they are, in the file and on
    the wire; `table set` mends the name and keeps the seats sold. (Before: no server started, and the advice was to
    throw the table away. With printable() taken out of menu.line(), the terminal is cleared.)
    """
    before = written_by_c(directory, nom)
    guichet = server(question, directory=directory)
    done = guichet.client("list")
    assert f"{shown} | 2027-01-15 | 77 places\n" in done.stdout
    menu = guichet.client(stdin="1\n0\n0\n").stdout
    assert shown in menu
    answer = guichet.client("--json", "list").stdout
    assert "\x1b" not in done.stdout + menu + answer
    assert "\x9b" not in done.stdout + menu + answer
    assert json.loads(answer)["shows"][0]["nom"] == nom.decode("utf-8", "replace")
    assert guichet.client("reserve", "0", "7").returncode == 0
    if question in helpers.QUEUES:
        assert nom in raw_list(guichet)
    assert guichet.stop() == 0
    assert (directory / "spectacles.dat").read_bytes() == before[:68] + bytes([70]) + before[69:]
    assert shown in table(directory, "show").stdout
    assert "\x9b" not in table(directory, "show", "--json").stdout
    done = table(directory, "set", "0", "--nom", "Court")
    assert (done.returncode, done.stdout) == (0, "[0] Court | 2027-01-15 | 70 places\n")


def raw_list(guichet: ServerProcess) -> bytes:
    """Return the table as a client of questions 2 to 4 gets it."""
    key = int(guichet.options[guichet.options.index("--key") + 1], 0)
    with ClientQueue(key, helpers.DEADLINE) as queue:
        return bytes(queue.exchange(LIST, LIST_REQUEST.pack(os.getpid()), LIST_REPLY.size))


@pytest.mark.parametrize(
    ("wrong", "mend"),
    [
        ({"nom": b"x" * 50}, ("--nom", "Court")),
        ({"nom": b"x" * 50, "date": b"y" * 11}, ("--nom", "Court", "--date", "demain")),
        ({"nom": b"a", "date": b"\xff" * 11}, ("--date", "demain")),
        ({"nom": b"a", "id_": -5}, ("--id", "5")),
        ({"nom": b"a", "places": -1}, ("--places", "0")),
    ],
    ids=["name", "name and date", "date", "id", "places"],
)
def test_what_no_server_serves_is_mended(directory: Path, wrong: dict[str, object], mend: tuple[str, ...]) -> None:
    """strncpy leaves no NUL after 50 bytes, and C programs do not see where the name ends: refused, but not lost.

    `table show` shows it, and says what is wrong; the advice is the command that mends it, which keeps the rest. (Fails
    with Store.load() refusing what is not 720 bytes of a possible table, whoever asks; and with advice that names no
    option, which was "rien à changer".)
    """
    before = written_by_c(directory, **wrong)  # type: ignore[arg-type]
    port = helpers.server_command("q3_threads", "--dir", str(directory), *helpers.fresh_names("q3_threads"))
    refused = helpers.run(port)
    assert refused.returncode == 1
    line = helpers.one_line(refused)
    advice = re.search(r"« python -m spectacles (.*) --dir (\S+) »", line)
    assert advice, line
    assert advice[1].startswith(f"table set 0 {mend[0]} "), line
    assert advice[2] == str(directory)
    assert "reset" not in line
    done = table(directory, "show")
    assert done.returncode == 1
    assert done.stdout.startswith("[0] ")
    assert helpers.one_line(done).partition(" : ")[2] == line.partition(" : ")[2]
    # Something else is set: done, and what remains is said.
    done = table(directory, "set", "1", "--nom", "b", "--date", "c", "--places", "2")
    assert done.returncode == 0
    assert "reste à réparer, case 0" in done.stdout
    done = table(directory, "set", "0", *mend)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert check_table((directory / "spectacles.dat").read_bytes()) is None
    show = helpers.read_table(directory)[0]
    if "--places" not in mend:
        assert show.places == 77
    if "--nom" not in mend:
        assert (directory / "spectacles.dat").read_bytes()[4:54] == before[4:54]
    assert table(directory, "show").returncode == 0


def test_advice_for_a_file_of_another_size(directory: Path) -> None:
    """Nothing can be shown of it: a copy is asked for first, and what `reset` costs is said."""
    (directory / "spectacles.dat").write_bytes(b"x" * 719)
    for words in (("show",), ("set", "0", "--places", "1")):
        done = table(directory, *words)
        assert done.returncode == 1
        assert "oublie les places vendues" in helpers.one_line(done)
        assert "copie de sauvegarde" in done.stderr


@pytest.mark.parametrize("question", ["q1_pipes", *helpers.QUEUES])
def test_refused_while_a_server_in_c_runs(
    server: helpers.Servers, c_programs: Path, directory: Path, question: str
) -> None:
    """It locks nothing, but reads its FIFOs, or answers in the queue of the directory: code 3, nothing changed.

    (Without _foreign_server() the table is replaced under it, and its next write undoes that.)
    """
    c_server = server(question, directory=directory, names=(), command=[str(c_programs / f"q{question[1]}_server")])
    assert c_server.client("reserve", "0", "1").returncode == 0
    before = (directory / "spectacles.dat").read_bytes()
    for words in (("reset",), ("set", "0", "--places", "1"), ("import", str(helpers.ROOT / "data/spectacles.toml"))):
        done = table(directory, *words)
        assert done.returncode == 3, done
        helpers.one_line(done)
    assert (directory / "spectacles.dat").read_bytes() == before
    assert table(directory, "show").returncode == 0
    assert c_server.stop() == 0
    assert table(directory, "reset").returncode == 0
