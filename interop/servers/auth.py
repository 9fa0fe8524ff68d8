"""An auth server for nsqd that knows two secrets.

With --certificates it answers only for clients that have shown nsqd a certificate, and names
them after it. Says on the first line of its output which port it got.
"""

import http.server
import json
import sys
import urllib.parse

PERMISSIONS = {
    "let me in": ["subscribe", "publish"],
    "subscribe only": ["subscribe"],
}
CERTIFICATE_NAME = "client.interop"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))
        refusal = self.refusal(url.path, query)
        if refusal:
            self.answer(403, refusal)
        else:
            self.answer(200, json.dumps(state(query)))

    def refusal(self, path, query):
        """Says what nsqd should not have asked for, or None."""
        if path != "/auth":
            return f"nothing at {path}"
        if self.headers["Accept"] != "application/vnd.nsq; version=1.0":
            return f"cannot answer {self.headers['Accept']}"
        if query.get("remote_ip") != "127.0.0.1":
            return f"not a client of this machine: {query}"
        if self.server.certificates and (query["tls"], query["common_name"]) != (
            "true",
            CERTIFICATE_NAME,
        ):
            return f"not the owner of a certificate: {query}"
        if query["secret"] not in PERMISSIONS:
            return "unknown secret"
        return None

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def state(query):
    return {
        "ttl": 3600,
        "identity": query["common_name"] or "interop",
        "identity_url": "",
        "authorizations": [
            {
                "topic": ".*",
                "channels": [".*"],
                "permissions": PERMISSIONS[query["secret"]],
            }
        ],
    }


def main():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.certificates = "--certificates" in sys.argv[1:]
    print(f"listening on 127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
