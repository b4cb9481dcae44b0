"""What the system and the bindings say in English reaches people in French; what we say ourselves is left as it is."""

from __future__ import annotations

import errno
import io
import os
import socket
from collections.abc import Callable

import posix_ipc
import pytest
import sysv_ipc

from spectacles.common.errors import UsageError, reason
from tests import helpers

NAMED = {"EDQUOT", "ESTALE", "ENOLCK", "ETIMEDOUT", "ENOSYS", "EINVAL", "ENXIO", "ESRCH", "EAGAIN", "EPERM", "ENOSPC"}


@pytest.mark.parametrize("number", sorted({*errno.errorcode, 200, 524}))
def test_no_number_of_the_system_is_english(number: int) -> None:
    """Those of files, sockets, memory, threads and IPC by what they mean, any other by its number.

    (With the system's own text as the last resort, as it was, most are English.)
    """
    said = reason(OSError(number, os.strerror(number), "essai"))
    assert said.startswith("essai : ")
    assert os.strerror(number) not in said
    assert (f"erreur n° {number} du système" in said) == (errno.errorcode.get(number, "") not in spelled_out())


def spelled_out() -> set[str]:
    """Return the names of the errors that have words of their own."""
    found = {errno.errorcode[n] for n in errno.errorcode if "erreur n°" not in reason(OSError(n, os.strerror(n)))}
    assert found >= NAMED
    assert len(found) > 75
    return found


def test_our_own_text_is_kept() -> None:
    """(With the table asked first, as it was, "à un autre utilisateur" becomes "opération non permise".)"""
    assert reason(OSError(errno.EPERM, "à un autre utilisateur", "d/x")) == "d/x : à un autre utilisateur"
    assert reason(OSError(errno.EINVAL, "ce n'est pas un fichier ordinaire")) == "ce n'est pas un fichier ordinaire"
    assert reason(UsageError("a : b")) == "a : b"
    assert reason(ValueError("719 octets au lieu de 720")) == "719 octets au lieu de 720"


def too_long_a_path() -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.connect("x" * 200)


def name_with_an_accent_missing() -> None:
    b"\xe9".decode()


FOREIGN: dict[str, Callable[[], object]] = {
    "path": too_long_a_path,
    "text": name_with_an_accent_missing,
    "queue": lambda: sysv_ipc.MessageQueue(helpers.fresh_key()),
    "memory": lambda: sysv_ipc.SharedMemory(helpers.fresh_key(), size=0),
    "semaphore": lambda: posix_ipc.Semaphore(helpers.fresh_semaphore()),
    "long": lambda: posix_ipc.Semaphore("/" + "n" * 252),
    "file": lambda: io.StringIO().fileno(),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_foreign_modules_say(name: str) -> None:
    """(With str() of them, as it was, each is English.)"""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        FOREIGN[name]()
    said = reason(caught.value)
    assert said != str(caught.value)
    assert said in {
        "n'existe pas",
        "nom trop long",
        "refusé par le système",
        "suite d'octets qui n'est pas du texte",
    }


def test_what_has_no_number() -> None:
    for error, said in (
        (TimeoutError("timed out"), "délai dépassé"),
        (MemoryError(), "plus de mémoire"),
        (RuntimeError("can't start new thread"), "le système ne donne plus de thread"),
        (OSError("The system limit for message queues has been reached"), "limite du noyau atteinte"),
        (OSError("Not enough shared memory identifiers available (ENOSPC)"), "limite du noyau atteinte"),
        (OSError("This process already has the maximum number of files open"), "trop de fichiers ouverts"),
        (sysv_ipc.PermissionsError("Permission 600 cannot be granted on the existing segment"), "droits insuffisants"),
        (sysv_ipc.BusyError("The queue is full, or ..."), "refusé par le système"),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure"), "aucun serveur de noms ne répond"),
        (socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure"), "le serveur de noms a échoué"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "nom introuvable"),
    ):
        assert reason(error).startswith(said), error
