"""One small cluster for each module of tests, which leave it as they found it; and the library in both of its forms."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from types import TracebackType
from typing import Any, TypeAlias, cast

import pytest

import heorot
from heorot import aio
from heorot.client.rank import AwaitedRank, Ranks
from tests.support.local_cluster import LocalCluster, local_cluster

Connect: TypeAlias = Callable[[str | os.PathLike[str]], heorot.Cluster]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Three nodes."""
    with local_cluster(3) as running:
        yield running


class Waited:
    """The asyncio form as if it were the blocking one: what is to be awaited is run to its end."""

    def __init__(self, run: Callable[[Coroutine[Any, Any, Any]], Any], of: Any) -> None:
        self._run = run
        self._of = of

    def __enter__(self) -> Waited:
        self._run(self._of.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._run(self._of.__aexit__(kind, error, at))

    def __getattr__(self, name: str) -> Any:
        return self._given(getattr(self._of, name))

    def _given(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self._run(value)
        if isinstance(value, AsyncIterator):
            return self._iterate(value)
        if callable(value):
            return lambda *fields, **options: self._given(value(*fields, **options))
        if isinstance(value, Ranks) or (isinstance(value, list) and value and isinstance(value[0], AwaitedRank)):
            return [Waited(self._run, each) for each in value]
        return Waited(self._run, value) if isinstance(value, aio.Cluster | aio.Job) else value

    def _iterate(self, items: AsyncIterator[Any]) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(items)

        while True:
            try:
                yield self._run(following())
            except StopAsyncIteration:
                return


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """`heorot.connect`, and `heorot.aio.connect` as if it were the same."""
    if request.param == "blocking":
        yield heorot.connect
        return
    with asyncio.Runner() as runner:

        async def opened(directory: str | os.PathLike[str]) -> aio.Cluster:
            return await aio.connect(directory)

        yield lambda directory: cast(heorot.Cluster, Waited(runner.run, runner.run(opened(directory))))
