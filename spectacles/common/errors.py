"""What can go wrong, as one line for a person and one exit code for a script.

| code | server                                             | client                                  |
|------|----------------------------------------------------|-----------------------------------------|
| 0    | stopped on request (SIGINT, SIGTERM, SIGHUP)       | done                                    |
| 1    | cannot serve: bad file, no rights, repeated deaths | refused: not enough seats, no such show |
| 2    | wrong usage                                        | wrong usage                             |
| 3    | another server holds the directory, key or port    | no server, no answer, or nobody to tell |
| 130  |                                                    | Ctrl-C                                  |
"""

import errno

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_HELD = 3
EXIT_NO_SERVER = 3
EAI_AGAIN = -3  # getaddrinfo(3): the name may well exist
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as the shells count


_FRENCH = {
    errno.EACCES: "accès refusé",
    errno.EPERM: "opération non permise",
    errno.ENOENT: "aucun fichier ou répertoire de ce nom",
    errno.ENOTDIR: "ce n'est pas un répertoire",
    errno.EEXIST: "existe déjà, et n'est pas un répertoire",
    errno.EISDIR: "c'est un répertoire",
    errno.ELOOP: "lien symbolique refusé",
    errno.EROFS: "système de fichiers en lecture seule",
    errno.ENOSPC: "plus de place sur le disque",
    errno.EFBIG: "taille de fichier maximale dépassée",
    errno.EIO: "erreur d'entrée-sortie",
    errno.EMFILE: "trop de fichiers ouverts",
    errno.EADDRINUSE: "adresse déjà utilisée",
    errno.EADDRNOTAVAIL: "cette adresse n'est pas à cette machine",
    errno.ECONNREFUSED: "connexion refusée",
    errno.ECONNRESET: "connexion coupée",
    errno.EPIPE: "personne ne lit à l'autre bout",
    errno.ENAMETOOLONG: "nom trop long",
    errno.ENOTSUP: "impossible sur ce système de fichiers",
    errno.ENOMEM: "plus de mémoire",
    errno.EHOSTUNREACH: "hôte injoignable",
    errno.ENETUNREACH: "réseau injoignable",
}


def reason(error: BaseException) -> str:
    """Return what went wrong in an OSError, in French where it is common, with the file if it names one."""
    if not isinstance(error, OSError):
        return str(error)
    if type(error).__name__ == "gaierror":  # its numbers are not errno's; named so that socket need not be imported
        again = error.errno == EAI_AGAIN
        return "aucun serveur de noms ne répond" if again else "nom introuvable"
    text = _FRENCH.get(error.errno or 0) or error.strerror or str(error)
    return f"{error.filename} : {text}" if error.filename else text


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


class RefusedError(SpectaclesError):
    """The server answered no."""

    exit_code = EXIT_REFUSED
