"""Run by the web server's container: web_server.py PORT:ADDRESS[:CERTIFICATE]...

It serves /srv, over TLS where a file with certificate and key is named.
"""

import functools
import http.server
import ssl
import sys
import threading

for place in sys.argv[1:]:
    port, address, certificate = (place + ":").split(":")[:3]
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory="/srv")
    server = http.server.ThreadingHTTPServer((address, int(port)), handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever).start()
