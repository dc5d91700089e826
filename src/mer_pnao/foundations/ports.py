"""Ports and names of this machine."""

import socket

from mer_pnao.foundations.errors import InputError

# What a request to a server of this machine calls it. Another name that leads here may be a foreign page's own, which
# its browser would let it speak to.
OWN_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def refuse_taken_port(host: str, port: int) -> None:
    """For servers that start too slowly, or too wordily, to find it out by themselves.

    Raises InputError when nobody can listen there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(f"port {port} of {host} cannot be used: {error.strerror}; choose another one") from error
