"""The client of etcd's gateway: servers that answer garbage or not at all, TLS, and authentication."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from heorot.coord.etcd import EtcdStore
from heorot.coord.etcd_client import MAX_ANSWER_BYTES, EtcdClient, EtcdSettings
from heorot.core.keeper.election import StoreRefused, StoreUnavailable
from tests.cluster.harness import await_that
from tests.support.etcd import Etcd, etcd

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def body(data: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(data) + data


@contextmanager
def server(answer: Callable[[socket.socket, threading.Event], None]) -> Iterator[str]:
    """Run a server that answers each connection in its own way; return its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            connection, _ = listener.accept()
            with connection:
                if over.is_set():
                    return
                try:
                    connection.recv(65536)
                    answer(connection, over)
                except OSError:
                    pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        over.set()
        with socket.create_connection(listener.getsockname()):
            pass
        thread.join()
        listener.close()


def says(data: bytes) -> Callable[[socket.socket, threading.Event], None]:
    return lambda connection, over: connection.sendall(data)


def drips(connection: socket.socket, over: threading.Event) -> None:
    """Send a byte now and then, for ever."""
    connection.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n")
    while not over.wait(0.02):
        connection.sendall(b" ")


def drips_headers(connection: socket.socket, over: threading.Event) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
    while not over.wait(0.02):
        connection.sendall(b"x")


GARBAGE = {
    "not-http": says(b"220 mail.example ESMTP\r\n" * 10),
    "html": says(b"HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\n<html></html>"),
    "not-json": says(body(b"\xff\xfe\x00")),
    "deep": says(body(b"[" * 100_000)),
    "list": says(body(b"[1,2]")),
    "empty": says(body(b"{}")),
    "rows": says(body(b'{"header":{},"kvs":[7]}')),
    "kvs": says(body(b'{"header":{},"kvs":{"a":1}}')),
    "base64": says(body(b'{"header":{},"kvs":[{"key":"\\u00e4","value":"%"}]}')),
    "numbers": says(body(b'{"header":{},"kvs":[{"key":"YQ==","mod_revision":"many"}]}')),
    "endless": says(HEAD + b"\r\n" + b" " * (MAX_ANSWER_BYTES + 100_000)),
    "chunks": says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"),
}


@pytest.mark.parametrize("kind", GARBAGE)
def test_a_store_that_answers_garbage_is_refused(kind: str) -> None:
    with server(GARBAGE[kind]) as url:
        store = EtcdStore(EtcdSettings((url,)), "c", "a", "h0")
        for _ in range(2):
            with pytest.raises((StoreRefused, StoreUnavailable)):
                store._read(5.0)
        with pytest.raises((StoreRefused, StoreUnavailable)):
            store.look()
        store.close()


@pytest.mark.parametrize("answer", [drips, drips_headers, says(b"")], ids=["body", "headers", "nothing"])
def test_a_call_ends_however_slowly_its_answer_comes(answer: Callable[[socket.socket, threading.Event], None]) -> None:
    with server(answer) as url:
        client = EtcdClient(EtcdSettings((url,)))
        with pytest.raises(StoreUnavailable, match="does not answer"):
            client.call("/v3/kv/range", {}, 0.3)
        with pytest.raises(StoreUnavailable, match="cannot watch"):
            client.watch(b"a", b"b", 0.3)
        client.close()


def test_after_any_error_the_next_member_is_asked(tmp_path: Path) -> None:
    with server(GARBAGE["html"]) as html, server(GARBAGE["not-http"]) as mail, etcd(tmp_path, 1) as real:
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            nobody = f"http://127.0.0.1:{unused.getsockname()[1]}"
            client = EtcdClient(EtcdSettings((nobody, html, mail, real.urls[0])))
            assert "header" in client.call("/v3/kv/range", {"key": "YQ=="}, 10.0)
            # It stays with the one that answers.
            assert client._current == 3
        client.close()


def certificate(
    directory: Path, name: str, authority: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """Make NAME.pem and NAME.key, for 127.0.0.1, of an authority or, without one, of itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    # With authentication, etcd's gateway refuses clients whose certificates have a common name.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)] if name != "client" else [])
    now = datetime.datetime.now(datetime.UTC)
    issuer, issuer_key = (authority[0].subject, authority[1]) if authority else (subject, key)
    addresses = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(addresses, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    (directory / f"{name}.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (directory / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return made, key


def test_tls_with_certificates_and_a_password(tmp_path: Path) -> None:
    authority = certificate(tmp_path, "ca", None)
    certificate(tmp_path, "server", authority)
    certificate(tmp_path, "client", authority)
    certificate(tmp_path, "stranger", None)
    files = {name: str(tmp_path / name) for name in ("ca.pem", "client.pem", "client.key", "stranger.pem")}
    options = ["--cert-file", str(tmp_path / "server.pem"), "--key-file", str(tmp_path / "server.key")]
    options += ["--client-cert-auth", "--trusted-ca-file", files["ca.pem"]]
    options += ["--bcrypt-cost", "4"]  # the least: on a busy machine a password's check outlasts a call's budget
    made = Etcd(tmp_path, 1, options, scheme="https")
    tls = {"ca": files["ca.pem"], "certificate": files["client.pem"], "key": files["client.key"]}
    admin = EtcdClient(EtcdSettings(tuple(made.urls), **tls))
    try:
        made.start()

        def ready() -> bool:
            try:
                return bool(admin.call("/v3/kv/range", {"key": "YQ=="}, 2.0))
            except StoreUnavailable:
                return False

        await_that(ready, "etcd with TLS")
        admin.call("/v3/auth/user/add", {"name": "root", "password": "r"}, 5.0)
        admin.call("/v3/auth/user/grant", {"user": "root", "role": "root"}, 5.0)
        admin.call("/v3/auth/enable", {}, 5.0)

        def store(**settings: str) -> closing[EtcdStore]:
            # Closed whatever comes: what a failed test holds would be found as left behind.
            return closing(EtcdStore(EtcdSettings(tuple(made.urls), **settings), "c", "a", "h0"))

        with store(**tls) as nobody, pytest.raises(StoreRefused):
            # Somebody who does not say who he is.
            nobody.look()
        with (
            store(**tls, user="root", password="wr0ng") as wrong,
            pytest.raises(StoreRefused, match="authentication failed") as caught,
        ):
            wrong.look()
        assert "wr0ng" not in str(caught.value) + repr(EtcdSettings((), password="wr0ng"))
        with (
            store(ca=files["stranger.pem"]) as deceived,
            pytest.raises(StoreUnavailable, match="certificate verify failed"),
        ):
            deceived.look()
        with store(ca=files["ca.pem"]) as unknown, pytest.raises((StoreUnavailable, StoreRefused)):
            # A server that wants our certificate, and gets none.
            unknown.look()

        with store(**tls, user="root", password="r") as known:
            known.look()
            assert known.hints()
            term = known.campaign(0)
            assert term is not None
            assert term.epoch == 1
            # Tokens run out; a new one is fetched without anybody noticing.
            known._client._token = "not-a-token.1"
            assert known.renew().leader == "h0"
    finally:
        admin.close()
        made.kill()


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    with pytest.raises(StoreRefused, match="TLS files"):
        EtcdClient(EtcdSettings(("https://127.0.0.1:1",), ca=str(tmp_path / "nothing.pem")))
