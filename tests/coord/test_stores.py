"""The store that a configuration names: what is wrong with it is said before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from heorot.config.files import ConfigError, StoreSection, check_store
from heorot.coord.local import LocalStore
from heorot.coord.stores import open_store
from heorot.core.keeper.election import StoreRefused


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (StoreSection(kind="etcd"), "endpoints is missing"),
        (StoreSection(kind="etcd", endpoints=("10.0.0.1:2379",)), "is no URL of a member"),
        (StoreSection(kind="etcd", endpoints=("http://a:99999",)), "is no URL of a member"),
        (StoreSection(kind="etcd", endpoints=("http://u@a:1",)), "is no URL of a member"),
        (StoreSection(kind="etcd", endpoints=("http://a:1",), cert="c.pem"), "are a pair"),
        (StoreSection(kind="etcd", endpoints=("http://a:1",), user="u"), "are a pair"),
    ],
)
def test_what_does_not_fit_together_is_named(section: StoreSection, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        check_store("[store]", section)


def test_without_a_word_heads_agree_through_a_file_lock(tmp_path: Path) -> None:
    assert isinstance(open_store(StoreSection(), tmp_path, "c", tmp_path, "h0"), LocalStore)


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    password = tmp_path / "password"
    password.write_text("secret\n")
    section = StoreSection(kind="etcd", endpoints=("http://a:1",), user="u", password_file=str(password))
    password.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_store(section, tmp_path, "c", tmp_path, "h0")
    password.chmod(0o600)
    # Now it gets as far as the authority, which is not there.
    with pytest.raises(StoreRefused, match=r"ca\.pem"):
        open_store(section, tmp_path, "c", tmp_path, "h0")
