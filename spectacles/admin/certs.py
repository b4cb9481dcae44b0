"""`spectacles certs`: an authority and certificates to try TLS with in question 5, for development only.

The key of the authority signs two certificates and is then forgotten, so that nobody can ever sign a third with it.
"""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import os
import re
import shlex
import sys
from pathlib import Path

from spectacles.common import cli, invocation
from spectacles.common.errors import SpectaclesError, UsageError
from spectacles.common.lifecycle import program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_HOSTS = ("127.0.0.1", "localhost", "::1")
DEFAULT_HOST = DEFAULT_HOSTS[0]  # of server and client: their --host may then be left out
LIFETIME = datetime.timedelta(days=365)
CLOCK_SKEW = datetime.timedelta(days=1)  # between the machines that make a certificate and check it

CA, SERVER_CERT, SERVER_KEY, CLIENT_CERT, CLIENT_KEY = "ca.pem", "server.pem", "server.key", "client.pem", "client.key"


def make(hosts: Sequence[str]) -> dict[str, bytes]:
    """Return five PEM files by name: an authority, and two certificates that it signed, valid for LIFETIME from now.

    hosts: names and addresses that the server's certificate is for. Raises UsageError for a bad one, SpectaclesError
    without trustme (the extra `tls`).
    """
    try:
        import trustme
    except ImportError:
        raise SpectaclesError(f"il manque trustme : {_how_to_install()}") from None
    authority = trustme.CA(organization_name="spectacles", organization_unit_name="autorité de développement")
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)

    def issue(common_name: str, *identities: str) -> trustme.LeafCert:
        return authority.issue_cert(
            *identities,
            common_name=common_name,
            organization_name="spectacles",
            organization_unit_name="développement",
            not_before=now - CLOCK_SKEW,
            not_after=now + LIFETIME,
        )

    try:
        server = issue("serveur", *(_identity(host) for host in hosts))
    except UnicodeError:  # a name that IDNA does not allow
        raise UsageError(
            f"hôte « {', '.join(hosts)} » : lettre impossible dans un nom de domaine, ou plus de 63 entre deux points"
        ) from None
    client = issue("client", "client@spectacles.invalid")
    return {
        CA: authority.cert_pem.bytes(),
        SERVER_CERT: server.cert_chain_pems[0].bytes(),
        SERVER_KEY: server.private_key_pem.bytes(),
        CLIENT_CERT: client.cert_chain_pems[0].bytes(),
        CLIENT_KEY: client.private_key_pem.bytes(),
    }


def _how_to_install() -> str:
    root = Path(__file__).resolve().parents[2]
    what = f"-e {shlex.quote(f'{root}[tls]')}" if (root / "pyproject.toml").exists() else "'spectacles-ipc[tls]'"
    return f"{shlex.quote(sys.executable or 'python')} -m pip install {what}"


def _identity(host: str) -> str:
    with contextlib.suppress(ValueError):
        return str(ipaddress.ip_address(host))
    # Only what a client can check: no network, no mailbox, no wildcard.
    labels = host.removesuffix(".").split(".")
    if not all(re.fullmatch(r"[^\W_]([\w-]*[^\W_])?", label) and "_" not in label for label in labels):
        raise UsageError(f"hôte « {host} » : ni un nom, ni une adresse")
    return ".".join(labels)


@program
def main(argv: list[str] | None = None) -> None:
    """Make the files and say how to use them. Raises SpectaclesError rather than replace one."""
    command = invocation.name("spectacles certs")
    parser = cli.Parser(
        prog=command,
        description="Crée une autorité de développement, un certificat de serveur et un de client, pour la question 5.",
        epilog=f"exemples : {command} /tmp/certs\n           {command} /tmp/certs --host guichet.example.org 192.0.2.7",
    )
    parser.add_argument("directory", metavar="DIR", help="où écrire ca.pem, server.pem et .key, client.pem et .key")
    parser.add_argument(
        "--host",
        nargs="+",
        default=DEFAULT_HOSTS,
        metavar="NOM",
        help=f"noms et adresses du serveur ({', '.join(DEFAULT_HOSTS)})",
    )
    options = parser.parse_args(argv)
    files = make(options.host)
    _write(options.directory, files)
    spectacles = invocation.command()
    where = {name: shlex.quote(os.path.join(options.directory, name)) for name in files}
    host = "" if options.host[0] == DEFAULT_HOST else f" --host {shlex.quote(options.host[0])}"
    print(
        f"{where[CA]} : l'autorité (sa clef n'est pas gardée)\n"
        f"{where[SERVER_CERT]}, {where[SERVER_KEY]} : le serveur ({', '.join(options.host)})\n"
        f"{where[CLIENT_CERT]}, {where[CLIENT_KEY]} : un client\n"
        f"Valables {LIFETIME.days} jours, pour le développement seulement.\n"
        "\n"
        "Le serveur (--client-ca : n'accepte que les clients qui ont un certificat) :\n"
        f"  {spectacles} server 5{host} --tls-cert {where[SERVER_CERT]} --tls-key {where[SERVER_KEY]}"
        f" --client-ca {where[CA]}\n"
        "Le client :\n"
        f"  {spectacles} client 5{host} --tls --ca {where[CA]}"
        f" --cert {where[CLIENT_CERT]} --key {where[CLIENT_KEY]}"
    )


def _write(directory: str, files: dict[str, bytes]) -> None:
    """Create all the files in `directory`, or none. Raises SpectaclesError, OSError."""
    os.makedirs(directory, 0o700, exist_ok=True)
    written: list[str] = []
    try:
        for name, data in files.items():
            path = os.path.join(directory, name)
            # O_EXCL: neither an existing file nor a symbolic link is written through.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            with open(os.open(path, flags, 0o600 if name.endswith(".key") else 0o644), "wb") as file:
                written.append(path)
                file.write(data)
    except OSError as error:
        for path in written:
            os.unlink(path)
        if isinstance(error, FileExistsError):
            raise SpectaclesError(f"{error.filename or path} : existe déjà, rien n'a été écrit") from None
        raise
