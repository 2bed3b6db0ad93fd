"""Join tokens: what the word says, what the head keeps, and who may use one."""

from __future__ import annotations

import json
import stat
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heorot.core.errors import SecurityError
from heorot.security.registry import NodeRecord, Registry
from heorot.security.tokens import KEPT_AFTER_EXPIRY_MS, MAX_TTL_MS, Token, TokenRefused, TokenStore

FINGERPRINT = bytes(range(32))
NOW_MS = 1_800_000_000_000


def test_a_token_is_one_word_and_reads_back(tmp_path: Path) -> None:
    token, record = TokenStore(tmp_path).create(FINGERPRINT, NOW_MS)
    text = token.to_text()
    assert text.startswith("heorot1.")
    assert len(text) < 110
    assert set(text[8:]) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert Token.from_text(f"  {text}\n") == token
    assert (record.uses_left, record.node, record.expires_at_ms) == (1, -1, NOW_MS + 3_600_000)


@given(st.data())
def test_no_copying_error_goes_unnoticed_and_none_shows_the_secret(data: st.DataObject) -> None:
    text = Token(FINGERPRINT, bytes(8), bytes(24)).to_text()
    index = data.draw(st.integers(0, len(text) - 1))
    wrong = text[:index] + data.draw(st.characters(max_codepoint=0x2FF)) + text[index + 1 :]
    short = data.draw(st.integers(0, len(text) - 1))
    for changed in (text[:short], wrong):
        if changed != text:
            with pytest.raises(SecurityError) as caught:
                Token.from_text(changed)
            assert text[8:] not in str(caught.value)


def test_a_token_has_one_spelling() -> None:
    text = Token(FINGERPRINT, bytes(8), bytes(24)).to_text()
    accepted = []
    for last in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_":
        with suppress(SecurityError):
            accepted.append(Token.from_text(text[:-1] + last).to_text())
    assert accepted == [text]


@given(st.text())
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(SecurityError):
        Token.from_text(text)
    with pytest.raises(SecurityError):
        Token.from_text("heorot1." + text)


def test_the_head_keeps_no_secret_and_shows_its_files_to_nobody(tmp_path: Path) -> None:
    token, record = TokenStore(tmp_path).create(FINGERPRINT, NOW_MS)
    kept = (tmp_path / "tokens" / f"{record.id}.json").read_text()
    assert token.secret.hex() not in kept
    assert token.to_text() not in kept
    assert repr(token) == f"Token({record.id})"
    assert stat.S_IMODE((tmp_path / "tokens").stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "tokens").iterdir()} == {0o600}


def refusal(store: TokenStore, token_id: bytes, secret: bytes, now_ms: int) -> TokenRefused:
    with pytest.raises(TokenRefused) as caught:
        store.check(token_id, secret, now_ms)
    return caught.value


def test_wrong_and_unknown_tokens_get_the_same_answer(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    token, _ = store.create(FINGERPRINT, NOW_MS)
    wrong = refusal(store, token.id, bytes(24), NOW_MS)
    unknown = refusal(store, bytes(8), token.secret, NOW_MS)
    assert (wrong.code, wrong.text) == (unknown.code, unknown.text)
    # Not even that it has expired is told without the secret.
    assert refusal(store, token.id, bytes(24), NOW_MS + 7_200_000).code == wrong.code
    assert store.check(token.id, token.secret, NOW_MS).uses_left == 1


def test_a_token_ends_with_its_time(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    token, _ = store.create(FINGERPRINT, NOW_MS, ttl_ms=1000)
    assert store.check(token.id, token.secret, NOW_MS + 999).uses_left == 1
    assert refusal(store, token.id, token.secret, NOW_MS + 1000).code == "token-expired"


def test_a_token_ends_with_its_uses(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    token, _ = store.create(FINGERPRINT, NOW_MS, uses=2)
    for _ in range(2):
        store.use(store.check(token.id, token.secret, NOW_MS))
    with pytest.raises(TokenRefused) as caught:
        store.use(store.check(token.id, token.secret, NOW_MS))
    assert caught.value.code == "token-used"


def test_a_revoked_token_is_unknown(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    token, record = store.create(FINGERPRINT, NOW_MS)
    assert store.revoke(record.id)
    assert not store.revoke(record.id)
    assert not store.revoke("../../etc/passwd")
    assert refusal(store, token.id, token.secret, NOW_MS).code == "token-unknown"


def test_tokens_that_are_long_over_are_forgotten(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    _, old = store.create(FINGERPRINT, NOW_MS, ttl_ms=1000)
    _, young = store.create(FINGERPRINT, NOW_MS + 1000 + KEPT_AFTER_EXPIRY_MS)
    assert [record.id for record in store.list()] == [young.id]
    assert old.id != young.id


@pytest.mark.parametrize(
    ("ttl_ms", "uses", "node"), [(0, 1, -1), (MAX_TTL_MS + 1, 1, -1), (1, 0, -1), (1, 65537, -1), (1, 2, 5)]
)
def test_values_out_of_range_are_refused(tmp_path: Path, ttl_ms: int, uses: int, node: int) -> None:
    with pytest.raises(SecurityError):
        TokenStore(tmp_path).create(FINGERPRINT, NOW_MS, ttl_ms=ttl_ms, uses=uses, node=node)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b'{"id": 1}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: bytes) -> None:
    store = TokenStore(tmp_path)
    token, record = store.create(FINGERPRINT, NOW_MS)
    (tmp_path / "tokens" / f"{record.id}.json").write_bytes(content)
    with pytest.raises(SecurityError, match=f"{record.id}.json is damaged"):
        store.check(token.id, token.secret, NOW_MS)


def test_the_registry_gives_the_lowest_free_number(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.next_free() == 0
    for number in (0, 1, 3):
        registry.put(NodeRecord(number, f"host{number}", "00", "t", NOW_MS))
    assert registry.next_free() == 2
    assert list(Registry(tmp_path).nodes()) == [0, 1, 3]
    removed = registry.remove(0, NOW_MS)
    assert removed is not None
    assert removed.host == "host0"
    assert registry.remove(0, NOW_MS) is None
    # A number that was taken away comes last: until it is given anew, whoever had it is refused.
    assert [registry.next_free(), registry.next_free(3), registry.next_free(2)] == [2, 2, 0]
    assert stat.S_IMODE((tmp_path / "registry.json").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", json.dumps({"version": 1, "nodes": [{"number": 1}]}), '{"version": 2}']
)
def test_a_damaged_registry_is_named_and_left_alone(tmp_path: Path, content: str) -> None:
    (tmp_path / "registry.json").write_text(content)
    registry = Registry(tmp_path)
    with pytest.raises(SecurityError, match=r"registry\.json"):
        registry.put(NodeRecord(0, "host", "00", "t", NOW_MS))
    assert (tmp_path / "registry.json").read_text() == content
