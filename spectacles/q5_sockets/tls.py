"""TLS 1.3 for question 5: what certificates and keys make of a connection, and what goes wrong with them, in French.

OpenSSL says why it failed in a word (WRONG_VERSION_NUMBER) or in a number. People get a sentence; the word stays beside
it, for those who look it up. The module ssl is imported where TLS is asked for: 4 MB that plain TCP does without.
"""

from __future__ import annotations

import re
from functools import partial

from spectacles.common.errors import UsageError, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ssl
    from argparse import Namespace

SERVER, CLIENT = "serveur", "client"
_CERTIFICATE = {SERVER: "certificat du serveur", CLIENT: "certificat de client"}  # as the other side sees it

# Words of OpenSSL, or parts of them (an alert's first word depends on the version), the first that is found counts.
_FAILURES = (
    ("CERTIFICATE_REQUIRED", "le {peer} exige un {own}"),
    ("PEER_DID_NOT_RETURN_A_CERTIFICATE", "le {peer} n'a montré aucun certificat"),
    ("UNKNOWN_CA", "le {peer} ne connaît pas l'autorité du {own}"),
    ("CERTIFICATE_EXPIRED", "le {peer} tient le {own} pour expiré"),
    ("CERTIFICATE_REVOKED", "le {peer} tient le {own} pour révoqué"),
    ("ALERT_BAD_CERTIFICATE", "le {peer} refuse le {own}"),
    ("ALERT_CERTIFICATE_UNKNOWN", "le {peer} refuse le {own}"),
    ("ALERT_UNSUPPORTED_CERTIFICATE", "le {peer} refuse le {own}"),
    ("ALERT_ACCESS_DENIED", "le {peer} refuse l'accès"),
    ("UNRECOGNIZED_NAME", "le {peer} ne connaît pas ce nom d'hôte"),
    ("PROTOCOL_VERSION", "le {peer} ne parle pas TLS 1.3"),
    ("UNSUPPORTED_PROTOCOL", "le {peer} ne parle pas TLS 1.3"),
    ("HANDSHAKE_FAILURE", "pas de chiffrement en commun avec le {peer}"),
    ("INSUFFICIENT_SECURITY", "pas de chiffrement en commun avec le {peer}"),
    ("NO_SHARED", "pas de chiffrement en commun avec le {peer}"),
    ("NO_SUITABLE", "pas de chiffrement en commun avec le {peer}"),
    ("WRONG_VERSION_NUMBER", "le {peer} ne parle pas TLS"),
    ("HTTP_REQUEST", "le {peer} parle HTTP, et non TLS"),
    ("PROXY_REQUEST", "le {peer} parle HTTP, et non TLS"),
    ("BAD_RECORD_MAC", "données altérées en route"),
    ("DECRYPT_ERROR", "données altérées en route"),
    ("RECORD", "le {peer} ne parle pas TLS"),
    ("PACKET_LENGTH", "le {peer} ne parle pas TLS"),
    ("UNEXPECTED_MESSAGE", "le {peer} ne parle pas TLS"),
    ("LENGTH", "le {peer} ne parle pas TLS"),
    ("ALERT_INTERNAL_ERROR", "erreur interne du {peer}"),
    ("KEY_VALUES_MISMATCH", "la clef n'est pas celle du certificat"),
    ("KEY_TYPE_MISMATCH", "la clef n'est pas celle du certificat"),
    ("NO_CERTIFICATE_ASSIGNED", "la clef n'est pas celle du certificat"),
    ("KEY_TOO_SMALL", "clef trop courte"),
    ("MD_TOO_WEAK", "signature trop faible"),
    ("NO_CERTIFICATE_OR_CRL_FOUND", "aucun certificat PEM dans ce fichier"),
    ("DECODE_ERROR", "connexion coupée"),  # the alert that OpenSSL sends where its end of the connection was shut
)

# X509_V_ERR_..., x509_vfy.h
_CERTIFICATE_FAILURES = {
    2: "autorité inconnue",
    20: "autorité inconnue",
    21: "autorité inconnue",
    18: "autosigné, et inconnu ici",
    19: "son autorité, autosignée, est inconnue ici",
    9: "pas encore valable (l'horloge est-elle à l'heure ?)",
    10: "expiré",
    23: "révoqué",
    24: "son autorité n'a pas le droit d'en signer",
    79: "son autorité n'a pas le droit d'en signer",
    26: "fait pour un autre usage",
    62: "établi pour un autre nom d'hôte",
    64: "établi pour une autre adresse",
    66: "clef trop courte",
    67: "clef de l'autorité trop courte",
    68: "signature trop faible",
}


def server_context(options: Namespace) -> ssl.SSLContext | None:
    """Return the context of a server with tls_cert, tls_key, client_ca; None without. Raises UsageError."""
    if not options.tls_cert:
        if options.tls_key or options.client_ca:
            raise UsageError("--tls-key et --client-ca demandent --tls-cert")
        return None
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _load_chain(context, options.tls_cert, options.tls_key)
    if options.client_ca:
        _load_authority(context, options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(options: Namespace) -> ssl.SSLContext | None:
    """Return the context of a client with tls, ca, cert, key; None without. Raises UsageError."""
    if not options.tls:
        if options.ca or options.cert or options.key:
            raise UsageError("--ca, --cert et --key demandent --tls")
        return None
    if options.key and not options.cert:
        raise UsageError("--key demande --cert")
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the certificate and the host name
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if options.ca:
        _load_authority(context, options.ca)
    else:
        context.load_default_certs()
    if options.cert:
        _load_chain(context, options.cert, options.key)
    return context


def is_end(error: BaseException) -> bool:
    """Say whether `error` is the end of the connection, in one of the ways in which ssl shows it.

    Which one depends on the version of Python, on OpenSSL, and on whether close_notify, FIN or RST came first: Python
    3.11.0 to 3.11.2 raise SSLZeroReturnError in a handshake where later ones raise SSLEOFError, others an OSError
    without a number.
    """
    import ssl

    ends = (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return (
        isinstance(error, ends) or word(error) == "UNEXPECTED_EOF_WHILE_READING" or getattr(error, "errno", None) == 0
    )


def was_refused(error: BaseException) -> bool:
    """Say whether the other side has refused this one's certificate, or its absence: it has then read nothing.

    In TLS 1.3 a client learns that only when its own handshake is over, and perhaps its first request sent.
    """
    return bool(re.search("ALERT_.*(CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)", word(error)))


def word(error: BaseException) -> str:
    """Return what OpenSSL calls a failure, as WRONG_VERSION_NUMBER; "" for other errors."""
    return str(getattr(error, "reason", None) or "").upper().replace(" ", "_")


def explain(error: BaseException, peer: str) -> str:
    """Return in French what has failed with the other side of a connection; peer: SERVER or CLIENT."""
    import ssl

    own = _CERTIFICATE[CLIENT if peer == SERVER else SERVER]
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _CERTIFICATE_FAILURES.get(error.verify_code, f"code {error.verify_code} d'OpenSSL")
        return f"certificat du {peer} refusé : {why}"
    for part, text in _FAILURES:
        if part in word(error):
            return text.format(peer=peer, own=own)
    if is_end(error):
        return f"le {peer} a fermé la connexion"
    if isinstance(error, TimeoutError):
        return "pas de réponse"
    if isinstance(error, ssl.SSLError):
        return f"erreur TLS {word(error) or type(error).__name__}"
    return reason(error)


def _load_chain(context: ssl.SSLContext, certificate: str, key: str | None) -> None:
    asked: list[bool] = []
    try:
        # Without an answer of ours OpenSSL would ask for a pass phrase at the terminal, and a server has none.
        context.load_cert_chain(certificate, key, password=partial(_no_pass_phrase, asked))
    except (OSError, ValueError) as error:
        if asked:
            why = "clef protégée par une phrase de passe ; enlevez-la (openssl pkey -in CLEF -out SANS_PHRASE)"
            raise UsageError(f"{key or certificate} : {why}") from None
        if not word(error):
            _check_pem(certificate, "CERTIFICATE")
            _check_pem(key or certificate, "PRIVATE KEY", "" if key else " ; la clef est dans un autre ?")
        names = f"{certificate}, {key}" if key else certificate
        raise _unusable(names, error) from None


def _no_pass_phrase(asked: list[bool]) -> str:
    asked.append(True)
    return ""


def _load_authority(context: ssl.SSLContext, path: str) -> None:
    try:
        context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        _check_pem(path, "CERTIFICATE")
        raise _unusable(path, error) from None


def _check_pem(path: str, label: str, hint: str = "") -> None:
    """Raise UsageError if the file cannot be read, or has no PEM block called `label` in it: OpenSSL does not say."""
    try:
        with open(path, "rb") as file:
            text = file.read(1_000_000)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} : {reason(error).removeprefix(f'{path} : ')}") from None
    if not re.search(rb"-----BEGIN [A-Z0-9 ]*%s-----" % label.encode(), text):
        if text[:1] == b"\x30":  # DER
            hint = " ; convertissez ce fichier binaire (openssl x509 ou pkey, -inform DER)"
        raise UsageError(f"{path} : aucun bloc PEM « {label} » dans ce fichier{hint}")


def _unusable(names: str, error: Exception) -> UsageError:
    known = next((text for part, text in _FAILURES if part in word(error)), "")
    why = known.format(peer="", own="") or word(error) or ("PEM abîmé" if "PEM" in str(error) else reason(error))
    return UsageError(f"{names} : certificat ou clef inutilisable ({why})")
