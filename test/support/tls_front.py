"""A proxy that puts TLS in front of a plain service, and a look at what a server shows."""

import select
import socket
import ssl
import tempfile
import threading
from pathlib import Path

PIECE = 65536  # bytes


def served(address, port):
    """The certificate that a server shows now, as PEM text."""
    return ssl.get_server_certificate((address, port), timeout=10)


class Front:
    """TLS in front of a plain service on the same address.

    url
        Its own, https.
    """

    def __init__(self, authority, address, port, behind):
        self.url, self._behind = f"https://{address}:{port}", (address, behind)
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        with tempfile.TemporaryDirectory() as folder:
            pem = Path(folder) / "pem"
            pem.write_text("".join(authority.issue(address)), encoding="ascii")
            self._context.load_cert_chain(pem)
        self._listener = socket.create_server((address, port), backlog=64)

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        # Wakes up the thread that waits, unlike close alone.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client):
        try:
            with (
                self._context.wrap_socket(client, server_side=True) as ours,
                socket.create_connection(self._behind) as theirs,
            ):
                while True:
                    ready = [ours] if ours.pending() else select.select([ours, theirs], [], [])[0]
                    for one in ready:
                        data = one.recv(PIECE)
                        if not data:
                            return
                        (theirs if one is ours else ours).sendall(data)
        except OSError:
            return  # a client that does not like the certificate, or has gone
