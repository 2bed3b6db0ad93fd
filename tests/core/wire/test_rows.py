"""Rows are maps on the wire, with the names and the order that ``--json`` shows: scripts depend on them."""

from __future__ import annotations

from typing import Any

import msgpack
import msgspec
import pytest
from msgspec.structs import asdict

from heorot.core.wire import clients as c
from heorot.core.wire import rows as r
from heorot.core.wire.tree import encode

NODE = r.NodeRow(0, "n0", "up", -1, 11, 12, "h:1", 0o755, 0, 1000, "root", "1000", "1.0", 3, False, True)
JOB = r.JobRow(
    "1.1", "running", "alice", 1000, 3, 1, 2, 1, 0, True, False, "n[0-2]", [b"sleep", b"9"], 1_700_000_000_000, "", 0
)
DETAILS = r.JobDetails(
    **asdict(JOB),
    statuses={
        "0": r.RankStatus(code=0),
        "1": r.RankStatus(code=127, error="no such file"),
        "2": r.RankStatus(signal=9),
        "3": r.RankStatus(lost="n3 is down"),
    },
    rank_nodes=[0, 1, 2, 3],
    left_running_by_rank={"0": 2},
    pids={"1": 77},
    used={"0": r.RankUsed(5, 1, None), "2": r.RankUsed(5, 1, 4096)},
    time_limit_ms=90_000,
    stopped={"1": 19},
)
PROCESS = r.ProcessRow(77, 1, "1.1", 1, 1000, None, "S", 1_700_000_000_000, [b"sleep", b"9"], True, 12, 30, 4096)
STATUS = r.ClusterStatus(
    "c", 2, "1.0", 32,
    [r.HeadRow("h0", "active", 5, "h:1"), r.HeadRow("h1", "absent", address="h:2"), r.HeadRow("h2", "standby")],
    r.HeadListRow([r.HeadEntry("h0", "h:1")], [r.ForeignHeadList([0, 1], None)]),
    r.StoreRow("etcd", True, 1.5, ""),
    r.ContactRow([], None, ""),
    [],
)  # fmt: skip

NODE_TEXT = (
    '{"id":0,"name":"n0","state":"up","parent":-1,"agent_pid":11,"init_pid":12,"address":"h:1","mode":493,"uid":0,'
    '"gid":1000,"user":"root","group":"1000","release":"1.0","ranks":3,"silent":false,"seen":true,"wanted":"","reason":"",'
    '"set_by":"","set_at_ms":null,"host_name":"","name_problem":"","head":""}'
)
JOB_TEXT = (
    '{"job":"1.1","state":"running","user":"alice","uid":1000,"ranks":3,"running":1,"exited":2,"failed":1,"lost":0,'
    '"attended":true,"detached":false,"nodes":"n[0-2]","argv":["c2xlZXA=","OQ=="],"started_at_ms":1700000000000,'
    '"text":"","left_running":0'
)
DETAILS_TEXT = (
    ',"statuses":{"0":{"code":0},"1":{"code":127,"error":"no such file"},"2":{"signal":9},"3":{"lost":"n3 is down"}},'
    '"rank_nodes":[0,1,2,3],"left_running_by_rank":{"0":2},"pids":{"1":77},"used":{"0":{"user_time_ms":5,'
    '"system_time_ms":1,"peak_memory_bytes":null},"2":{"user_time_ms":5,"system_time_ms":1,"peak_memory_bytes":4096}},'
    '"time_limit_ms":90000,"stopped":{"1":19}}'
)
PROCESS_TEXT = (
    '{"pid":77,"node":1,"job":"1.1","rank":1,"uid":1000,"user":null,"state":"S","started_at_ms":1700000000000,'
    '"argv":["c2xlZXA=","OQ=="],"leader":true,"parent_pid":12,"user_time_ms":30,"memory_bytes":4096}'
)
STATUS_TEXT = (
    '{"cluster":"c","epoch":2,"release":"1.0","fanout":32,"heads":[{"name":"h0","role":"active","pid":5,'
    '"address":"h:1"},{"name":"h1","role":"absent","address":"h:2"},{"name":"h2","role":"standby"}],"head_list":'
    '{"heads":[{"name":"h0","address":"h:1"}],"others":[{"nodes":[0,1],"heads":null}]},"store":{"kind":"etcd",'
    '"reachable":true,"since_s":1.5,"problem":""},"contact":{"lost":[],"since_s":null,"text":""},"nodes":[]}'
)
# Arguments are bytes: as JSON, base64.


@pytest.mark.parametrize(
    ("row", "text"),
    [
        pytest.param(NODE, NODE_TEXT, id="node"),
        pytest.param(JOB, JOB_TEXT + "}", id="job"),
        pytest.param(DETAILS, JOB_TEXT + DETAILS_TEXT, id="job-in-full"),
        pytest.param(r.ProcessList([PROCESS], [4]), f'{{"processes":[{PROCESS_TEXT}],"missing":[4]}}', id="processes"),
        pytest.param(STATUS, STATUS_TEXT, id="status"),
    ],
)
def test_a_row_is_a_map_of_these_names_in_this_order(row: Any, text: str) -> None:
    assert msgspec.json.encode(row).decode() == text
    # And so it comes to a command, which knows nothing of structs.
    *_, value = msgpack.unpackb(encode(c.Result(1, row)))
    assert msgspec.json.encode(value).decode() == text


def test_the_first_rows_of_a_long_answer_are_the_same() -> None:
    assert msgpack.unpackb(encode(c.Rows(1, [NODE])))[-1] == msgspec.to_builtins([NODE])
