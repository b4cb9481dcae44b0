"""x2_basket: what is held is nobody's yet, what is confirmed is sold, and every end gives the seats back once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from spectacles.common import protocol
from spectacles.common.spectacle import INT_MAX
from spectacles.common.storage import Store
from spectacles.x2_basket.client import VERBS
from spectacles.x2_basket.table import MAX_HOLDS, BasketTable
from tests import helpers, raw_tcp
from tests.fault import campaign
from tests.test_menu import terminal
from tests.test_words import english
from tests.x2_peer import CONFIRM, HOLD, Buyer, seats_of, sold
from tools import progression

X2 = "x2_basket"
PLACES = dict(enumerate(helpers.PLACES))


def some(**seats: int) -> dict[int, int]:
    """Return what the sample catalogue has left once so many seats are gone: some(s0=2, s5=1)."""
    return {slot: places - seats.get(f"s{slot}", 0) for slot, places in PLACES.items()}


# Held, and what ends it


def test_held_seats_are_not_free(server: helpers.Servers) -> None:
    """Nobody else can have them, by reservation or by hold; who holds them sees them in the basket.

    (Fails with _publish() leaving what is held in the table, with _aside() returning 0.)
    """
    guichet = server(X2)
    with Buyer(guichet) as one, Buyer(guichet) as other:
        assert one.hold(5, 12)
        assert one.hold(0, 2)
        assert one.hold(0, 3)
        assert one.free() == other.free() == some(s5=12, s0=5)
        assert one.basket() == {0: 5, 5: 12}
        assert other.basket() == {}
        assert not other.hold(5, 1)
        assert not other.reserve(5, 1)
        assert not other.hold(0, 116)
        assert not one.reserve(5, 1)  # a reservation is not made from the basket
        assert other.reserve(0, 115)
        assert other.free() == some(s5=12, s0=120)
        assert sold(guichet) == some(s0=115)


def test_release(server: helpers.Servers) -> None:
    """So many as are there, of that show, and those put in last go first: the others keep their time.

    (Fails with the holds taken in order: the seconds left are then those of the second hold.)
    """
    guichet = server(X2, "--hold-seconds", "1000")
    with Buyer(guichet) as one, Buyer(guichet) as other:
        assert one.hold(0, 2)
        first = one.look()[0]
        helpers.eventually(lambda: one.look()[0] < first, "a second")
        assert one.hold(0, 5)
        assert one.hold(1, 1)
        assert one.release(0, 3)
        assert one.basket() == {0: 4, 1: 1}
        assert other.free() == some(s0=4, s1=1)
        for show, seats in ((0, 5), (1, 2), (2, 1), (0, 0), (0, -1), (0, INT_MAX), (-1, 1), (10, 1)):
            assert not one.release(show, seats)
        assert not other.release(0, 1)
        assert one.release(0, 2)
        assert one.look()[0] < first
        assert one.release(0, 2)
        assert one.release(1, 1)
        assert one.look() == (0, {})
        assert other.free() == PLACES


@pytest.mark.parametrize("end", ["close", "half", "reset", "unknown request"])
def test_who_leaves_gives_back(end: str, server: helpers.Servers) -> None:
    """However the connection ends, and what was confirmed stays sold. (Fails without Basket.__exit__.)"""
    guichet = server(X2)
    with Buyer(guichet) as one, Buyer(guichet) as other:
        assert one.hold(1, 3)
        assert one.confirm(3)
        assert one.hold(0, 7)
        assert other.free() == some(s0=7, s1=3)
        if end == "close":
            one.socket.close()
        elif end == "half":
            one.leave()
            assert other.free() == some(s1=3)  # not "soon": whoever sees the end of the connection finds the seats back
        elif end == "reset":
            raw_tcp.reset(one.socket)
        else:
            assert one.ask(7) == b""
        helpers.eventually(lambda: other.free() == some(s1=3), "the seats back")
        assert re.search("parti, 7 place", guichet.wait_for("PANIER.*parti"))


def test_a_client_killed_in_any_state(server: helpers.Servers) -> None:
    """kill -9 of a real client with a basket: its seats are back; what it had confirmed before is sold."""
    guichet = server(X2)
    steps = ("basket", "hold", "0", "5", "confirm", "hold", "0", "7", "hold", "5", "12", "wait", "60")
    with helpers.background(guichet.client_command(*steps)) as client, Buyer(guichet) as other:
        helpers.eventually(lambda: other.free() == some(s0=12, s5=12), "everything held")
        client.kill()
        client.wait()
        helpers.eventually(lambda: other.free() == some(s0=5), "the seats back")
    assert sold(guichet) == some(s0=5)


def test_time_is_up(server: helpers.Servers) -> None:
    """After --hold-seconds they are back, for the first who asks, though nobody has left; once, and in the log.

    (Fails with _expire() doing nothing, and with the seats of a hold given back twice.)
    """
    guichet = server(X2, "--hold-seconds", "0.3")
    with Buyer(guichet) as one, Buyer(guichet) as other:
        called = time.monotonic()
        assert one.hold(5, 12)
        told = time.monotonic()
        assert other.free() == some(s5=12) or time.monotonic() - called > 0.3
        while other.free() != PLACES:
            assert time.monotonic() - told < helpers.DEADLINE
        assert time.monotonic() - called >= 0.3
        assert one.basket() == {}
        assert not one.confirm(12)
        assert other.hold(5, 12)
        assert other.confirm(12)
        one.leave()  # which gives back nothing more
        assert other.free() == some(s5=12)
    guichet.wait_for(r"PANIER.*12 place\(s\) du spectacle 5 rendue\(s\), délai écoulé")


def test_a_list_without_the_lock_is_never_behind_the_clock(directory: Path) -> None:
    """In the very middle of giving back: whoever then finds that nothing has ended finds the seats back too.

    (Fails with the two assignments of _publish() the other way round.)
    """
    campaign.write_table(directory, [10])
    glimpses: list[int] = []

    class Slow(BasketTable):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if name in ("_ends", "_offer") and hasattr(self, "_ends") and self._ends > time.monotonic() + 1:
                glimpses.append(seats_of(self._offer)[0])  # what a list would take, without the lock

    fd = os.open(directory, os.O_RDONLY)
    store = Store(fd, str(directory))
    table = Slow(bytearray(720), threading.Lock(), store, 0.01)
    with table.basket("one") as basket:
        assert table.hold(basket, 0, 4) == 6
        glimpses.clear()
        helpers.eventually(lambda: table.contents(basket)[4:] == bytes(720), "the end of the hold")
        assert glimpses
        assert set(glimpses) == {10}
    table.release()
    store.close()
    os.close(fd)


def test_the_log_says_it_though_nobody_asks(server: helpers.Servers) -> None:
    """Housekeeping looks too. (Fails without BasketTable.tend.)"""
    guichet = server(X2, "--hold-seconds", "0.2")
    with Buyer(guichet) as one:
        assert one.hold(5, 12)
        guichet.wait_for("délai écoulé")


def test_what_is_left_of_a_basket_is_not_bought_for_the_whole(server: helpers.Servers) -> None:
    """All or nothing, in time too: when a part has gone back, the whole is confirmed no more; but the rest is.

    (Fails with the number of seats left out of confirm().)
    """
    guichet = server(X2, "--hold-seconds", "0.4")
    with Buyer(guichet) as one:
        assert one.hold(0, 2)
        time.sleep(0.2)  # not for something to be ready: two holds of different ages are what this is about
        assert one.hold(1, 3)
        helpers.eventually(lambda: one.basket() == {1: 3}, "the first hold at its end")
        assert not one.confirm(5)
        assert one.confirm(3) or one.basket() == {}  # a slow machine
    assert sold(guichet)[0] == 120


# Confirmed


def test_confirm_sells_all_of_it(server: helpers.Servers) -> None:
    """Several shows at once, in the file before the answer; then the basket is empty, and nothing comes back."""
    guichet = server(X2)
    with Buyer(guichet) as one, Buyer(guichet) as other:
        assert one.hold(0, 2)
        assert one.hold(3, 250)
        assert one.hold(5, 1)
        assert other.hold(5, 2)
        for wrong in (0, -1, 252, 254, INT_MAX):
            assert not one.confirm(wrong)
        assert one.confirm(253)
        assert sold(guichet) == some(s0=2, s3=250, s5=1)
        assert one.basket() == {}
        assert not one.confirm(253)
        assert not one.confirm(0)
        assert other.basket() == {5: 2}
        one.leave()
        assert other.free() == some(s0=2, s3=250, s5=3)
    assert guichet.stop() == 0
    assert sold(guichet) == some(s0=2, s3=250, s5=1)
    assert "remis en place" not in guichet.output


def test_a_reader_of_the_file_sees_all_or_nothing(server: helpers.Servers, directory: Path) -> None:
    """At every moment, by the name: the first and the last show are sold by the same step.

    (Fails with two records written in place, one after the other.)
    """
    campaign.write_table(directory, [500] * 10)
    guichet = server(X2, directory=directory)
    done = threading.Event()
    torn: list[bytes] = []
    looks = 0

    def read() -> None:
        nonlocal looks
        while not done.is_set():
            table = (directory / "spectacles.dat").read_bytes()
            looks += 1
            if len(table) != 720 or table[68:72] != table[716:720]:
                torn.append(table)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with Buyer(guichet) as one:
            for _ in range(100):
                assert one.hold(0, 1)
                assert one.hold(9, 1)
                assert one.confirm(2)
    finally:
        done.set()
        reader.join()
    assert looks > 50
    assert torn == []
    assert sold(guichet)[0] == sold(guichet)[9] == 400


def test_a_reservation_and_a_confirmation_at_once(server: helpers.Servers, directory: Path) -> None:
    """One writes a record into the file that the other replaces: neither loses the other's.

    (Fails with Store.replace() outside of the lock.)
    """
    campaign.write_table(directory, [5000] * 2)
    guichet = server(X2, "--log-level", "warning", directory=directory)

    def reserve() -> None:
        with Buyer(guichet) as one:
            for _ in range(150):
                assert one.reserve(0, 1)

    def confirm() -> None:
        with Buyer(guichet) as one:
            for _ in range(75):
                assert one.hold(0, 1)
                assert one.hold(1, 1)
                assert one.confirm(2)

    threads = [threading.Thread(target=work) for work in (reserve, confirm, reserve, confirm)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sold(guichet) == {0: 5000 - 450, 1: 5000 - 150}
    with Buyer(guichet) as one:
        assert one.free() == sold(guichet)
    assert guichet.stop() == 0


# The server's end


def test_a_killed_server_loses_baskets_and_nothing_else(server: helpers.Servers) -> None:
    """kill -9: what was confirmed is sold, what was held is back, and no seat is gone for ever.

    (Fails with what is held taken off the file.)
    """
    guichet = server(X2)
    with Buyer(guichet) as one, Buyer(guichet) as other:
        assert one.hold(0, 5)
        assert one.hold(1, 5)
        assert one.confirm(10)
        assert one.hold(0, 100)
        assert other.hold(5, 12)
        guichet.kill()
        assert raw_tcp.is_closed(one.socket)
    again = server(X2, directory=guichet.directory)
    with Buyer(again) as one:
        assert one.free() == some(s0=5, s1=5)
        assert one.hold(5, 12)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_with_full_baskets(number: int, server: helpers.Servers) -> None:
    """Code 0, at once, and the file has what is sold."""
    guichet = server(X2)
    with Buyer(guichet) as one:
        assert one.hold(0, 120)
        assert guichet.stop(number) == 0
        assert raw_tcp.is_closed(one.socket)
    assert sold(guichet) == PLACES
    assert "parti, 120 place(s) rendue(s)" in guichet.output


def test_the_file_is_put_back_without_what_is_held(server: helpers.Servers) -> None:
    """Somebody removes it while seats are held: what is written is what is sold; a basket is confirmed then.

    (Fails with what is held taken off what the file is to hold.)
    """
    guichet = server(X2)
    with Buyer(guichet) as one:
        assert one.hold(0, 20)
        (guichet.directory / "spectacles.dat").unlink()
        guichet.wait_for("remis en place")
        assert sold(guichet) == PLACES
        assert one.confirm(20)
        assert sold(guichet) == some(s0=20)


def test_somebody_else_s_file_is_not_overwritten(server: helpers.Servers) -> None:
    """A confirmation just after somebody put a file of theirs there: it gets a name of its own first.

    (Fails without the look in BasketTable.confirm.)
    """
    guichet = server(X2)
    theirs = b"precious" * 90
    with Buyer(guichet) as one:
        assert one.hold(0, 20)
        path = guichet.directory / "spectacles.dat"
        new = guichet.directory / "new"
        new.write_bytes(theirs)
        new.rename(path)
        helpers.eventually(lambda: one.basket() == {} or one.confirm(20), "confirmed")
    assert sold(guichet) == some(s0=20)
    assert theirs in [path.read_bytes() for path in guichet.directory.glob("spectacles.dat.*")]


# What nobody should send


def test_numbers_that_make_no_sense(server: helpers.Servers) -> None:
    """Refused, each with a reason in the log, and nothing has changed. (Fails with `seats <= 0` left out of hold().)"""
    guichet = server(X2)
    with Buyer(guichet) as one:
        assert one.hold(2, 1)
        for show in (0, 6, 9, 10, -1, INT_MAX, -INT_MAX - 1):
            for seats in (0, -1, -INT_MAX - 1, INT_MAX, *((1,) if show else ())):
                assert not one.hold(show, seats), (show, seats)
        for kind in (HOLD, 4, CONFIRM):
            assert one.ask(kind, -1, -1) == raw_tcp.NO
        assert one.ask(CONFIRM, INT_MAX, 1) == raw_tcp.YES  # its show means nothing
        assert one.free() == some(s2=1)
    assert guichet.output.count("PANIER") == guichet.output.count(", refusé : ") + 2
    assert "Traceback" not in guichet.output


@pytest.mark.parametrize("kind", [0, -1, 7, 256, INT_MAX, -INT_MAX - 1])
def test_unknown_types(kind: int, server: helpers.Servers) -> None:
    """They end the connection, as in question 5, and the basket with it."""
    guichet = server(X2)
    with Buyer(guichet) as one, Buyer(guichet) as other:
        name = raw_tcp.name_of(one.socket)
        assert one.hold(0, 10)
        assert one.ask(kind) == b""
        helpers.eventually(lambda: other.free() == PLACES, "the seats back")
        one.socket.close()
        assert f"requête de type {kind} inconnue" in raw_tcp.farewell(guichet, name)


def test_question_5_knows_no_basket(server: helpers.Servers) -> None:
    """Its server hangs up, and our client says what may be the matter. (Fails without Session._of_basket.)"""
    guichet = server("q5_sockets")
    options = guichet.client_options()
    done = helpers.run(helpers.client_command(X2, *options, "basket", "hold", "0", "1"))
    assert done.returncode == 3
    assert "sans panier" in helpers.one_line(done)
    assert helpers.run(helpers.client_command(X2, *options, "reserve", "0", "1")).returncode == 0


def test_so_much_and_no_more(server: helpers.Servers, directory: Path) -> None:
    """A basket has MAX_HOLDS holds, INT_MAX seats in all, or --max-held.

    (Fails without each of the two limits: memory without end, a number of seats that no confirmation can say.)
    """
    campaign.write_table(directory, [INT_MAX, INT_MAX])
    guichet = server(X2, directory=directory)
    with Buyer(guichet) as one, Buyer(guichet) as other:
        assert one.hold(0, INT_MAX - 1)
        assert not one.hold(1, 2)
        assert one.hold(1, 1)
        assert other.free() == {0: 1, 1: INT_MAX - 1}
        assert one.confirm(INT_MAX)
        for _ in range(MAX_HOLDS):
            assert other.hold(1, 1)
        assert not other.hold(1, 1)
        assert other.release(1, 1)
        assert other.hold(1, 1)
    few = server(X2, "--max-held", "4")
    with Buyer(few) as one:
        assert one.hold(0, 3)
        assert not one.hold(1, 2)
        assert one.hold(1, 1)


def test_who_holds_everything_for_ever(server: helpers.Servers) -> None:
    """One client takes all seats of a show again and again; another gets some all the same, as their time ends.

    (Fails with _expire() doing nothing.)
    """
    guichet = server(X2, "--hold-seconds", "0.15", "--log-level", "warning")
    done = threading.Event()

    def hoard() -> None:
        with Buyer(guichet) as one:
            while not done.is_set():
                one.hold(5, 12)
                time.sleep(0.001)

    hoarder = threading.Thread(target=hoard)
    hoarder.start()
    try:
        with Buyer(guichet) as other:
            helpers.eventually(lambda: other.hold(5, 2), "two seats", 30)
            assert other.confirm(2)
    finally:
        done.set()
        hoarder.join()
    assert sold(guichet) == some(s5=2)


def test_a_crowd_of_baskets(server: helpers.Servers) -> None:
    """Two hundred, all at once, and none of them confirmed: not a seat is missing afterwards."""
    guichet = server(X2, "--log-level", "warning")
    with Buyer(guichet) as last:
        with contextlib.ExitStack() as crowd:
            buyers = [crowd.enter_context(Buyer(guichet)) for _ in range(200)]
            held = sum(buyer.hold(number % 6, 2) for number, buyer in enumerate(buyers))
            assert held == 34 + 34 + 33 + 33 + 20 + 6  # the last two shows are too small for all
            assert last.free()[5] == 0
        helpers.eventually(lambda: last.free() == PLACES, "all seats back")


def test_too_many_clients(server: helpers.Servers) -> None:
    """Who has been silent for longest gives way, and its basket goes back. (Fails without Basket.__exit__.)"""
    guichet = server(X2, "--max-clients", "2")
    with Buyer(guichet) as one, Buyer(guichet) as other:
        assert one.hold(0, 100)
        assert other.hold(1, 1)

        def third() -> bool:
            assert other.basket() == {1: 1}
            with Buyer(guichet) as newcomer, contextlib.suppress(*raw_tcp.GONE, AssertionError):
                return newcomer.free() == some(s1=1)
            return False

        helpers.eventually(third, "a newcomer served")


# A disk that fails


def test_a_full_disk(server: helpers.Servers, directory: Path) -> None:
    """Nothing is acknowledged, the basket stays, the file is whole; with room again, the same confirmation is done."""
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "none", str(directory)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no right to mount a file system of its own")
    try:
        guichet = server(X2, directory=directory)
        with Buyer(guichet) as one, Buyer(guichet) as other:
            assert one.hold(0, 2)
            assert one.hold(1, 3)
            with (directory / "ballast").open("wb", buffering=0) as ballast, contextlib.suppress(OSError):
                while ballast.write(bytes(1024)):
                    pass
            assert not one.confirm(5)
            assert one.basket() == {0: 2, 1: 3}
            assert sold(guichet) == PLACES
            assert other.free() == some(s0=2, s1=3)
            assert other.reserve(2, 1)  # in place, which takes no room
            (directory / "ballast").unlink()
            assert one.confirm(5)
            assert sold(guichet) == some(s0=2, s1=3, s2=1)
        assert guichet.stop() == 0
        assert "Traceback" not in guichet.output
        assert not list(directory.glob(".*"))
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def test_a_file_size_limit(server: helpers.Servers) -> None:
    """setrlimit(2): a new file that may have 300 bytes. The reservation in place fails too, as it must."""
    guichet = server(X2)
    _, hard = resource.prlimit(guichet.pid, resource.RLIMIT_FSIZE)
    with Buyer(guichet) as one:
        assert one.hold(0, 2)
        resource.prlimit(guichet.pid, resource.RLIMIT_FSIZE, (300, hard))
        assert not one.confirm(2)
        assert one.basket() == {0: 2}
        resource.prlimit(guichet.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert one.confirm(2)
    assert sold(guichet) == some(s0=2)


# Its clients


def test_clients_of_question_5(server: helpers.Servers, c_programs: Path) -> None:
    """In Python and in C, unchanged: they see what is free, and get it."""
    guichet = server(X2)
    options = guichet.client_options()
    with Buyer(guichet) as holder:
        assert holder.hold(0, 100)
        for command in (
            [str(c_programs / "q5_client"), *options],
            helpers.client_command("q5_sockets", *options, "--json"),
        ):
            done = helpers.run([*command, "list"])
            assert done.returncode == 0, done
            left = {show["index"]: show["places"] for show in json.loads(done.stdout)["shows"]}
            assert left[0] == 20 if "python" not in command[0] else left[0] == 19
            assert helpers.run([*command, "reserve", "0", "21"]).returncode == 1
            assert helpers.run([*command, "reserve", "0", "1"]).returncode == 0
    assert sold(guichet) == some(s0=2)


MINE = """
#include "spectacles.h"
#include <arpa/inet.h>

static int ask(int sock, int type, int show, int seats) {
    Tcp_request request = {type, show, seats};
    bool ack = false;
    if (write(sock, &request, sizeof request) != sizeof request || read(sock, &ack, sizeof ack) != sizeof ack)
        fail("socket");
    return ack;
}

int main(int argc, char **argv) {
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1]))};
    int sock = socket(AF_INET, SOCK_STREAM, 0);
    inet_pton(AF_INET, "127.0.0.1", &there.sin_addr);
    if (connect(sock, (struct sockaddr *)&there, sizeof there) < 0)
        fail("connect");
    int told = ask(sock, TYPE_HOLD, 0, 2) + ask(sock, TYPE_HOLD, 5, 3) + ask(sock, TYPE_RELEASE, 5, 1);
    Tcp_request look = {TYPE_BASKET, 0, 0};
    Tcp_response_basket basket;
    if (write(sock, &look, sizeof look) != sizeof look || read_full(sock, &basket, sizeof basket) != sizeof basket)
        fail("socket");
    printf("%d %d %d %d %d", told, basket.seconds > 0, basket.spectacles[0].places, basket.spectacles[5].places,
           basket.spectacles[1].id);
    printf(" %d\\n", ask(sock, TYPE_CONFIRM, 0, 4));
    return 0;
}
"""


def test_a_basket_in_c(server: helpers.Servers, c_programs: Path, tmp_path: Path) -> None:
    """The header has what it takes, laid out as a C compiler does. (Fails with the seconds after the table.)"""
    (tmp_path / "mine.c").write_text(MINE)
    include = str(helpers.ROOT / "spectacles" / "lab" / "c")
    subprocess.run(
        ["cc", "-Wall", "-Wextra", "-I", include, "-o", "mine", "mine.c"], cwd=tmp_path, check=True, timeout=60
    )
    guichet = server(X2)
    done = helpers.run([tmp_path / "mine", str(guichet.address()[1])])
    assert done.stdout == "3 1 2 2 0 1\n", done
    assert sold(guichet) == some(s0=2, s5=2)


def test_layout() -> None:
    """Twelve bytes as before; the basket is the table with four bytes in front."""
    assert protocol.TCP_BASKET_REPLY.size == 724
    assert (protocol.HOLD, protocol.RELEASE, protocol.CONFIRM, protocol.BASKET) == (3, 4, 5, 6)


def test_in_tls(server: helpers.Servers, tmp_path: Path) -> None:
    """The clients of both, encrypted; a basket is given back however such a connection ends."""
    pytest.importorskip("trustme", reason="the extra `tls` is not installed: no certificates can be made")
    assert helpers.run([sys.executable, "-m", "spectacles", "certs", tmp_path / "c"]).returncode == 0
    place = tmp_path / "c"
    guichet = server(X2, "--tls-cert", str(place / "server.pem"), "--tls-key", str(place / "server.key"))
    options = [*guichet.client_options(), "--tls", "--ca", str(place / "ca.pem")]
    assert helpers.run(helpers.client_command("q5_sockets", *options, "reserve", "0", "1")).returncode == 0
    steps = ("basket", "hold", "0", "2", "hold", "5", "1", "confirm", "hold", "1", "80")
    assert helpers.run(helpers.client_command(X2, *options, *steps)).returncode == 0
    listed = helpers.run(helpers.client_command("q5_sockets", *options, "--json", "list"))
    left = {show["index"]: show["places"] for show in json.loads(listed.stdout)["shows"]}
    assert left == sold(guichet) == some(s0=3, s5=1)


def test_commands(server: helpers.Servers) -> None:
    """One step after the other, on one connection; the first refusal ends it, with code 1: all goes back."""
    guichet = server(X2)
    done = guichet.client("basket", "hold", "5", "12", "release", "5", "2", "show", "confirm")
    assert (done.returncode, done.stderr) == (0, "")
    assert "[5] Improvisation à trois | 2027-03-08 | 10 places" in done.stdout
    assert done.stdout.endswith("Panier confirmé : 10 place(s)\n")
    done = guichet.client("basket", "hold", "0", "1", "hold", "5", "3", "confirm")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "Refusé : hold 5 3")
    done = guichet.client("--json", "basket", "hold", "1", "1", "wait", "0.01", "show", "confirm", "confirm")
    assert done.returncode == 1
    answer = json.loads(done.stdout)
    assert [step["ack"] for step in answer["steps"]] == [True, True, True, True, False]
    assert answer["steps"][2]["shows"][0]["places"] == 1
    assert sold(guichet) == some(s5=10, s1=1)
    command = [sys.executable, "-m", "spectacles"]
    assert helpers.run([*command, "client", "x2", *guichet.client_options(), "list"]).returncode == 0


@pytest.mark.parametrize(
    "steps",
    [[], ["fly"], ["hold"], ["hold", "0"], ["hold", "0", "x"], ["hold", "0", "2147483648"], ["wait", "0"]],
    ids=str,
)
def test_steps_that_make_no_sense(steps: list[str]) -> None:
    """One line and code 2, before anybody is asked. (Fails with the steps read one by one while they are done.)"""
    done = helpers.run(helpers.client_command(X2, "--port", "1", "basket", *steps))
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in helpers.one_line(done)


def test_two_baskets_at_their_menus(server: helpers.Servers) -> None:
    """Two people want the last seats: who puts them into the basket first has them, until they go back.

    (Fails with the entries of the menu not handed on.)
    """
    guichet = server(X2)
    with terminal(guichet) as one, terminal(guichet) as other:
        for person in (one, other):
            shown = person.expect("Votre choix : ")
            assert "2. Réservation\r\n3. Mettre au panier\r\n" in shown
        one.type("3\n5\n12\n")
        assert "Improvisation à trois | 2027-03-08 | 12 places" in one.expect("Votre choix : ")
        other.type("3\n5\n1\n")
        assert "Refusé : " in other.expect("Votre choix : ")
        other.type("1\n")
        assert "[5] Improvisation à trois | 2027-03-08 | 0 places" in other.expect("Votre choix : ")
        one.type("4\n5\n2\n")
        assert "10 places" in one.expect("Votre choix : ")
        other.type("3\n5\n2\n")
        other.expect("Votre choix : ")
        other.type("3\nx\n")
        assert "Choix invalide" in other.expect("Votre choix : ")
        other.type("6\nn\n")
        assert "Rien n'est confirmé" in other.expect("Votre choix : ")
        other.type("6\no\n")
        assert "Panier confirmé" in other.expect("Votre choix : ")
        one.type("0\n")
        assert one.end() == 0
        helpers.eventually(lambda: len(re.findall("parti, 10 place", guichet.output)) == 1, "given back")
        other.type("5\n")
        assert "Panier vide" in other.expect("Votre choix : ")
    assert sold(guichet) == some(s5=2)


def test_the_menu_says_that_time_is_up(server: helpers.Servers) -> None:
    """Somebody who has thought for too long is told so, once. (Fails without Session.held.)"""
    guichet = server(X2, "--hold-seconds", "1")
    with terminal(guichet) as person:
        person.expect("Votre choix : ")
        person.type("3\n0\n2\n")
        person.expect("Votre choix : ")
        guichet.wait_for("délai écoulé")
        person.type("6\n")
        shown = person.expect("Votre choix : ")
        assert "2 place(s) de ce panier" in shown
        assert "Panier vide" in shown
        person.type("5\n")
        assert "Temps écoulé" not in person.expect("Votre choix : ")


def test_real_clients_want_the_last_seats(server: helpers.Servers) -> None:
    """Six processes want all twelve, each with something else besides: one has both, the others neither.

    (Fails with the basket of who was refused left where it is.)
    """
    guichet = server(X2)
    steps = ("basket", "hold", "1", "10", "hold", "5", "12", "confirm")
    running = [
        subprocess.Popen(guichet.client_command(*steps), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(6)
    ]
    codes = sorted(process.wait(helpers.DEADLINE) for process in running)
    assert codes == [0, 1, 1, 1, 1, 1]
    with Buyer(guichet) as last:
        helpers.eventually(lambda: last.free() == some(s1=10, s5=12), "what was refused back")
    assert sold(guichet) == some(s1=10, s5=12)


def test_reconnected_without_a_basket(server: helpers.Servers) -> None:
    """The server is killed under a basket: the client says that it is empty. (Fails without Session._reconnect.)"""
    first = server(X2)
    with terminal(first) as person:
        person.expect("Votre choix : ")
        person.type("3\n0\n2\n")
        person.expect("Votre choix : ")
        first.kill()
        server(X2, "--port", str(first.address()[1]), directory=first.directory)
        person.type("6\n")
        person.expect("(o/n) : ")
        person.type("o\n")
        assert "Le panier est vide" in person.expect("Votre choix : ")
        person.type("5\n")
        assert "Panier vide" in person.expect("Votre choix : ")


def test_the_command_names_it(tmp_path: Path) -> None:
    """`spectacles server x2`, by both of its names, and what it takes is in its help."""
    for name in ("x2", "X2", "x2_basket"):
        done = helpers.run([sys.executable, "-m", "spectacles", "server", name, "--help"], cwd=tmp_path)
        assert done.returncode == 0
        assert "--hold-seconds" in done.stdout
    for name in ("x", "x22", "2_basket", "basket", "q"):
        assert helpers.run([sys.executable, "-m", "spectacles", "server", name], cwd=tmp_path).returncode == 2
    for seconds in ("0", "-1", "nan", "86401", "x"):
        done = helpers.run(helpers.server_command(X2, "--dir", str(tmp_path / "d"), "--hold-seconds", seconds))
        assert done.returncode == 2
        helpers.one_line(done)


def test_its_page_shows_the_code() -> None:
    """docs/further.md has the drawing and the difference to question 5 as they are, and that is small.

    (Fails with a line of either server changed.)
    """
    page = (progression.ROOT / "docs" / "further.md").read_text(encoding="utf-8")
    gone, come = progression.changed_lines("q5_sockets", X2)
    assert f"{gone} go, {come} come" in page
    assert max(gone, come) <= 25
    for block in (["```text", *progression.drawing(X2), "```"], progression.shown("diff", "q5_sockets", X2)):
        assert "\n".join(block) in page, "\n".join(block)
    assert progression.functions(X2) == progression.functions("q5_sockets")


def test_the_other_commands_know_it(server: helpers.Servers, tmp_path: Path) -> None:
    """`table` keeps its hands off a served directory, `watch` shows who waits, `compare` measures it beside question 5.

    (Fails with x2_basket taken out of FURTHER, and out of TCP.)
    """
    spectacles = [sys.executable, "-m", "spectacles"]
    guichet = server(X2)
    with Buyer(guichet) as one:
        assert one.hold(0, 20)
        done = helpers.run([*spectacles, "table", "set", "0", "--places", "1", "--dir", guichet.directory])
        assert (done.returncode, "x2_basket" in helpers.one_line(done)) == (3, True)
        done = helpers.run([*spectacles, "watch", "x2", "--once", "--dir", guichet.directory])
        assert done.returncode == 0, done
        assert "x2_basket" in done.stdout
        guichet.kill()
    (guichet.directory / ".spectacles.dat.nouveau").write_bytes(b"half")
    done = helpers.run([*spectacles, "clean", "--dir", guichet.directory])
    assert (done.returncode, ".spectacles.dat.nouveau" in done.stdout) == (0, True)
    done = helpers.run([*spectacles, "compare", "x2", "5", "--clients", "2", "--duration", "0.2"], cwd=tmp_path)
    assert done.returncode == 0, done
    assert "q5 → x2" in done.stdout


def test_in_french(tmp_path: Path, server: helpers.Servers) -> None:
    """What it says to people, help and refusals, has no English word in it. (Fails with one put there.)"""
    for words in (["client", "x2", "--help"], ["client", "x2", "basket", "--help"], ["server", "x2", "--help"]):
        said = helpers.run([sys.executable, "-m", "spectacles", *words], cwd=tmp_path).stdout
        assert english(said, [*words, *VERBS]) == [], said
    for words in (["basket"], ["basket", "fly"], ["basket", "hold", "1"], ["basket", "wait", "x"], ["--hold", "1"]):
        done = helpers.run([sys.executable, "-m", "spectacles", "client", "x2", *words], cwd=tmp_path)
        assert done.returncode == 2
        assert english(helpers.one_line(done), [*words, *VERBS]) == []
    guichet = server(X2)
    guichet.client(
        "basket", "hold", "0", "1", "release", "0", "1", "hold", "0", "1", "show", "confirm", "hold", "6", "1"
    )
    assert english("\n".join(line for line in guichet.lines if "PANIER" in line), ["INFO"]) == []
