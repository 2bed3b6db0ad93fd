"""The Python library, asyncio form, under its public name; see `heorot.client.aio`."""

from heorot.client.aio import Cluster, Job, connect

__all__ = ["Cluster", "Job", "connect"]
