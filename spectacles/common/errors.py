"""What can go wrong, as one line for a person and one exit code for a script.

| code | server                                             | client                                  |
|------|----------------------------------------------------|-----------------------------------------|
| 0    | stopped on request (SIGINT, SIGTERM, SIGHUP)       | done                                    |
| 1    | cannot serve: bad file, no rights, repeated deaths | refused: not enough seats, no such show |
|      | directory gone; table not in its file at the end   |                                         |
| 2    | wrong usage; main() in another thread              | the same                                |
| 3    | another server holds the directory, key or port    | no server, no answer, or nobody to tell |
| 130  |                                                    | Ctrl-C                                  |
"""

import errno
import os

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_HELD = 3
EXIT_NO_SERVER = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as the shells count

EAI_AGAIN, EAI_FAIL, EAI_MEMORY = -3, -4, -10  # after the first, the name may well exist

# In full, for whatever a file system, a socket, a thread or the kernel's IPC may answer: what people read is French.
_FRENCH = {
    errno.EPERM: "opération non permise",
    errno.ENOENT: "aucun fichier ou répertoire de ce nom",
    errno.ESRCH: "aucun processus de ce numéro",
    errno.EINTR: "interrompu par un signal",
    errno.EIO: "erreur d'entrée-sortie",
    errno.ENXIO: "personne à l'autre bout",
    errno.E2BIG: "trop long pour qui le reçoit",
    errno.ENOEXEC: "ce n'est pas un programme",
    errno.EBADF: "descripteur fermé",
    errno.ECHILD: "aucun processus fils",
    errno.EAGAIN: "indisponible pour le moment",
    errno.ENOMEM: "plus de mémoire",
    errno.EACCES: "accès refusé",
    errno.EFAULT: "adresse mémoire invalide",
    errno.EBUSY: "occupé",
    errno.EEXIST: "existe déjà, et n'est pas un répertoire",
    errno.EXDEV: "sur un autre système de fichiers",
    errno.ENODEV: "aucun périphérique de ce genre",
    errno.ENOTDIR: "ce n'est pas un répertoire",
    errno.EISDIR: "c'est un répertoire",
    errno.EINVAL: "valeur refusée par le système",
    errno.ENFILE: "trop de fichiers ouverts sur cette machine",
    errno.EMFILE: "trop de fichiers ouverts, voyez « ulimit -n »",
    errno.ENOTTY: "impossible sur ce genre de fichier",
    errno.ETXTBSY: "programme en cours d'exécution",
    errno.EFBIG: "taille de fichier maximale dépassée",
    errno.ENOSPC: "plus de place sur le disque",
    errno.ESPIPE: "un tube n'a pas de position",
    errno.EROFS: "système de fichiers en lecture seule",
    errno.EMLINK: "trop de liens",
    errno.EPIPE: "personne ne lit à l'autre bout",
    errno.ERANGE: "hors limites",
    errno.EDEADLK: "interblocage évité",
    errno.ENAMETOOLONG: "nom trop long",
    errno.ENOLCK: "pas de verrou possible ici, ou il n'en reste plus",
    errno.ENOSYS: "le noyau n'a pas cette fonction",
    errno.ENOTEMPTY: "répertoire non vide",
    errno.ELOOP: "lien symbolique refusé",
    errno.ENOMSG: "aucun message de ce type",
    errno.EIDRM: "supprimé entre-temps",
    errno.ENODATA: "aucune donnée",
    errno.ETIME: "délai dépassé",
    errno.ECOMM: "erreur de communication",
    errno.EPROTO: "erreur de protocole",
    errno.EBADMSG: "données abîmées",
    errno.EOVERFLOW: "trop grand",
    errno.EILSEQ: "suite d'octets qui n'est pas du texte",
    errno.EUSERS: "trop d'utilisateurs",
    errno.ENOTSOCK: "ce n'est pas une socket",
    errno.EDESTADDRREQ: "il manque le destinataire",
    errno.EMSGSIZE: "message trop long",
    errno.EPROTOTYPE: "protocole d'un autre genre",
    errno.ENOPROTOOPT: "option inconnue du protocole",
    errno.EPROTONOSUPPORT: "protocole inconnu du noyau",
    errno.ESOCKTNOSUPPORT: "genre de socket inconnu du noyau",
    errno.ENOTSUP: "impossible sur ce système de fichiers",
    errno.EPFNOSUPPORT: "famille de protocoles inconnue du noyau",
    errno.EAFNOSUPPORT: "famille d'adresses inconnue du noyau",
    errno.EADDRINUSE: "adresse déjà utilisée",
    errno.EADDRNOTAVAIL: "cette adresse n'est pas à cette machine",
    errno.ENETDOWN: "réseau arrêté",
    errno.ENETUNREACH: "réseau injoignable",
    errno.ENETRESET: "connexion coupée par le réseau",
    errno.ECONNABORTED: "connexion abandonnée",
    errno.ECONNRESET: "connexion coupée",
    errno.ENOBUFS: "plus de mémoire pour le réseau",
    errno.EISCONN: "déjà connecté",
    errno.ENOTCONN: "pas connecté",
    errno.ESHUTDOWN: "connexion déjà fermée",
    errno.ETIMEDOUT: "délai dépassé",
    errno.ECONNREFUSED: "connexion refusée",
    errno.EHOSTDOWN: "hôte arrêté",
    errno.EHOSTUNREACH: "hôte injoignable",
    errno.EALREADY: "déjà en cours",
    errno.EINPROGRESS: "en cours",
    errno.ESTALE: "disparu du serveur de fichiers",
    errno.EUCLEAN: "système de fichiers abîmé",
    errno.EREMOTEIO: "erreur d'entrée-sortie à distance",
    errno.EDQUOT: "quota de disque dépassé",
    errno.ECANCELED: "annulé",
    errno.EOWNERDEAD: "son propriétaire est mort",
    errno.ENOTRECOVERABLE: "irrécupérable",
}
_RESOLVER = {  # getaddrinfo(3): its numbers are not errno's
    EAI_AGAIN: "aucun serveur de noms ne répond",
    EAI_FAIL: "le serveur de noms a échoué",
    EAI_MEMORY: _FRENCH[errno.ENOMEM],
}
_LIMIT = "limite du noyau atteinte (« ipcs -l » les dit toutes)"
# What sysv_ipc and posix_ipc say without a number, by words in it.
_BINDINGS = {
    "(ENOSPC)": _LIMIT,
    "system limit for": _LIMIT,
    "system limit on": _FRENCH[errno.ENFILE],
    "maximum number of files": _FRENCH[errno.EMFILE],
    "already exists": "existe déjà",
    " exists ": "n'existe pas",
    "does not exist": "n'existe pas",
    "ermission": "droits insuffisants",
    "too long": _FRENCH[errno.ENAMETOOLONG],
    "Invalid parameter": _FRENCH[errno.EINVAL],
    "is invalid": _FRENCH[errno.EINVAL],
    "by a signal": _FRENCH[errno.EINTR],
}


def reason(error: BaseException) -> str:
    """Return in French what went wrong, with the file if an OSError names one.

    A text of ours, in whatever kind of exception, is returned as it is; what the system and the bindings say is
    translated, and what has no translation is called by its number.
    """
    if not isinstance(error, OSError) or error.errno is None:
        return _without_number(error)
    if type(error).__name__ == "gaierror":  # named so that socket need not be imported
        return _RESOLVER.get(error.errno, "nom introuvable")
    text = error.strerror or ""
    if not text or text == os.strerror(error.errno):  # else it was given by who raised it
        text = _FRENCH.get(error.errno) or f"erreur n° {error.errno} du système"
    return f"{error.filename} : {text}" if error.filename else text


def _without_number(error: BaseException) -> str:
    said = str(error)
    if isinstance(error, MemoryError):
        return _FRENCH[errno.ENOMEM]
    if isinstance(error, TimeoutError):
        return _FRENCH[errno.ETIMEDOUT]
    if isinstance(error, UnicodeError):
        return _FRENCH[errno.EILSEQ]
    if isinstance(error, RuntimeError) and "thread" in said:  # can't start new thread
        return "le système ne donne plus de thread"
    ours = not isinstance(error, OSError) and type(error).__module__ not in ("posix_ipc", "sysv_ipc")
    known = (french for words, french in _BINDINGS.items() if words in said)
    return next(known, said if ours else "refusé par le système")


class SpectaclesError(Exception):
    """A failure with a message of one line (what, where, what to do) and an exit code."""

    exit_code = EXIT_FAILED


class UsageError(SpectaclesError):
    """The command line or a value typed by a person makes no sense."""

    exit_code = EXIT_USAGE


class HeldError(SpectaclesError):
    """Another live server holds what this one needs."""

    exit_code = EXIT_HELD


class NoServerError(SpectaclesError):
    """No server, no answer in time, or the server went away."""

    exit_code = EXIT_NO_SERVER


class NoAnswerError(NoServerError):
    """A request was sent, wholly or in part, and not answered: it may have been served, or may be yet if it `waits`."""

    def __init__(self, message: str, *, waits: bool = False) -> None:
        super().__init__(message)
        self.waits = waits


class RefusedError(SpectaclesError):
    """The server answered no."""

    exit_code = EXIT_REFUSED
