"""Ports and names of this machine."""

import socket

from mer_pnao.foundations.errors import InputError

# What a request to a server of this machine calls it. Another name that leads here may be a foreign page's own, which
# its browser would let it speak to.
OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address; port 0 is any free one. Raises InputError when the address cannot be used."""
    if not host:
        raise InputError("an empty host would be every address of this machine; name one")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        host.encode("idna")  # which create_server does, and leaves a socket open where that fails
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{host} port {port} cannot be used: {reason}; choose another one") from error


def refuse_taken_port(host: str, port: int) -> None:
    """Raise InputError as `listen` does, for servers that find it out too late, or in too many words."""
    listen(host, port).close()
