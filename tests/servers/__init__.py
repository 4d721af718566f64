"""Small servers on loopback that speak the protocols of the real ones over real sockets, with faults on demand."""

from servers.base import Answer, Fault, Seen, Server

__all__ = ["Answer", "Fault", "Seen", "Server"]
