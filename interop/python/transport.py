"""The layers between a client and nsqd besides the TCP connection."""

import dataclasses
import os


@dataclasses.dataclass(frozen=True)
class Transport:
    layers: frozenset
    # The folder of the certificates.
    files: str
    # The secret for AUTH, where that is a layer.
    secret: str

    @classmethod
    def from_environment(cls):
        """Reads names joined with +, such as tls+snappy. Those that concern only the server
        side, such as unix, change nothing here."""
        return cls(
            frozenset(os.environ.get("TRANSPORT", "").split("+")),
            os.environ.get("CERTIFICATES", ""),
            os.environ.get("AUTH_SECRET", ""),
        )

    def options(self):
        """The options of pynsq for a connection over this transport."""
        options = {layer: True for layer in ("snappy", "deflate") if layer in self.layers}
        if "auth" in self.layers:
            options["auth_secret"] = self.secret
        if "tls" in self.layers:
            options["tls_v1"] = True
            options["tls_options"] = {"ca_certs": f"{self.files}/ca.pem"}
        if "certificate" in self.layers:
            options["tls_options"].update(self.certificate("client"))
        return options

    def certificate(self, name):
        return {"certfile": f"{self.files}/{name}.pem", "keyfile": f"{self.files}/{name}.key"}

    def in_stats(self):
        """The same as nsqd reports it of a connection."""
        expected = {layer: layer in self.layers for layer in ("tls", "snappy", "deflate")}
        if "auth" in self.layers:
            named = "certificate" in self.layers
            expected["authed"] = True
            expected["auth_identity"] = "client.interop" if named else "interop"
        return expected
