"""What can go wrong, as one line for a person and one exit code for a script.

| code | server                                             | client                                  |
|------|----------------------------------------------------|-----------------------------------------|
| 0    | stopped on request (SIGINT, SIGTERM, SIGHUP)       | done                                    |
| 1    | cannot serve: bad file, no rights, repeated deaths | refused: not enough seats, no such show |
| 2    | wrong usage                                        | wrong usage                             |
| 3    | another server holds the directory, key or port    | no server, no answer in time            |
"""

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_HELD = 3
EXIT_NO_SERVER = 3
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as the shells count


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
