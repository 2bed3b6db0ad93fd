"""`heorot.bproc`: BProc's names, what they return, and what they fail with."""

from __future__ import annotations

import errno
import inspect
import os
import select
import sys
from pathlib import Path
from typing import Any

import pytest

import heorot
from heorot import bproc
from tests.support.local_cluster import DEADLINE_S, LocalCluster

NAMES = [
    "numnodes",
    "currnode",
    "nodestatus",
    "nodeaddr",
    "nodeinfo",
    "nodelist",
    "getnodeattr",
    "setnodeattr",
    "chmod",
    "chown",
    "chgrp",
    "access",
    "nodespec",
    "nodefilter",
    "notifier",
    "proclist",
    "pidnode",
    "rexec",
    "move",
    "rfork",
    "vrfork",
    "execmove",
    "vexecmove",
    "nodechroot",
    "nodereboot",
    "nodehalt",
    "nodepwroff",
    "nodesetstatus",
    "nodereconnect",
]
MOVING = ["move", "rfork", "vrfork", "execmove", "vexecmove"]
CONTROLLING: list[tuple[str, tuple[Any, ...]]] = [
    ("nodechroot", (0, "/")),
    ("nodereconnect", (0, "h1")),
]


def test_all_of_bprocs_names_are_there_and_say_what_they_do() -> None:
    assert len(NAMES) == 29
    for name in (*NAMES, "rexec_io", *(f"{name}_io" for name in MOVING)):
        assert name in bproc.__all__
        assert inspect.getdoc(getattr(bproc, name)), name


def test_nodes_and_their_attributes(cluster: LocalCluster) -> None:
    assert bproc.numnodes() == 3
    nodes = bproc.nodelist()
    assert [node.node for node in nodes] == [0, 1, 2]
    assert {node.status for node in nodes} == {"up"}
    one = bproc.nodeinfo(1)
    assert one == nodes[1]
    assert bproc.nodestatus(1) == bproc.getnodeattr(1, "state") == "up"
    host, port = bproc.nodeaddr(1)
    assert host
    assert 0 < port < 65536
    assert (one.mode, one.user, one.group) == (0o111, 0, 0)
    assert bproc.getnodeattr(1, "release") == heorot.__version__
    assert bproc.nodestatus(bproc.NODE_MASTER) == "up"
    assert bproc.currnode() == bproc.NODE_MASTER
    assert bproc.nodeinfo(bproc.NODE_SELF).node == bproc.NODE_MASTER
    assert [bproc.access(node) for node in (0, bproc.NODE_MASTER)] == [True, True]
    assert bproc.access(0, os.F_OK)


def test_node_lists_are_bprocs_with_repeats_in_order(cluster: LocalCluster) -> None:
    assert [node.node for node in bproc.nodespec("2,0-1,n2,master")] == [2, 0, 1, 2, -1]
    assert bproc.nodespec("down") == []
    some = bproc.nodespec("1-2")
    assert [node.node for node in bproc.nodefilter(some, "up")] == [1, 2]
    assert [node.node for node in bproc.nodefilter(some, "2,0,2")] == [2, 2]


@pytest.mark.parametrize("call", ["nodestatus", "nodeinfo", "nodeaddr", "access", "proclist"])
def test_an_unknown_node_is_an_error_with_bprocs_number(cluster: LocalCluster, call: str) -> None:
    with pytest.raises(bproc.InvalidNodeError, match="there is no node 99") as caught:
        getattr(bproc, call)(99)
    assert caught.value.errno == bproc.BE_INVALIDNODE == 300
    assert isinstance(caught.value, OSError)


def test_what_is_wrong_has_the_number_that_it_has_in_bproc(cluster: LocalCluster) -> None:
    with pytest.raises(bproc.InvalidNodeError, match="n77"):
        bproc.nodespec("n77")
    with pytest.raises(bproc.SameNodeError, match="on the head already") as same:
        bproc.rexec(bproc.NODE_MASTER, "/bin/true", ["true"])
    assert same.value.errno == bproc.BE_SAMENODE
    with pytest.raises(bproc.InvalidNodeError):
        bproc.rexec(99, "/bin/true", ["true"])
    with pytest.raises(bproc.BprocError, match="no attribute 'colour'") as unknown:
        bproc.getnodeattr(0, "colour")
    assert unknown.value.errno == errno.ENODATA
    with pytest.raises(bproc.BprocError, match="no attribute 'addr' that can be set"):
        bproc.setnodeattr(0, "addr", "here")
    with pytest.raises(bproc.InvalidProcessError) as process:
        bproc.pidnode(2**22 + 1)
    assert process.value.errno == bproc.BE_INVALIDPROC
    bproc.use("/nonexistent")
    try:
        with pytest.raises(bproc.BprocError, match="no cluster at /nonexistent"):
            bproc.numnodes()
    finally:
        bproc.use(cluster.directory)


@pytest.mark.parametrize("name", [*MOVING, *(f"{name}_io" for name in MOVING)])
def test_what_moves_processes_says_that_it_comes_later(name: str) -> None:
    with pytest.raises(bproc.ComesLaterError, match=f"{name} comes with the moving of processes") as caught:
        getattr(bproc, name)(0)
    assert caught.value.errno == errno.ENOSYS
    assert isinstance(caught.value, NotImplementedError)


@pytest.mark.parametrize(("name", "arguments"), CONTROLLING)
def test_what_has_no_place_here_says_so(name: str, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(bproc.ComesLaterError, match=f"^.*{name} is not in this release"):
        getattr(bproc, name)(*arguments)


@pytest.mark.parametrize(("name", "word"), [("nodereboot", "reboot"), ("nodehalt", "halt"), ("nodepwroff", "pwroff")])
def test_nodes_are_ended_by_the_sites_command_only(cluster: LocalCluster, name: str, word: str) -> None:
    with pytest.raises(bproc.BprocError, match=f"there is no command for '{word}'") as caught:
        getattr(bproc, name)(0)
    assert caught.value.errno == errno.EOPNOTSUPP
    assert bproc.nodestatus(0) == "up"
    with pytest.raises(bproc.InvalidNodeError):
        getattr(bproc, name)(99)


def test_states_owners_and_modes_of_nodes_are_set(cluster: LocalCluster, library: heorot.Cluster) -> None:
    bproc.nodesetstatus(1, "drain")
    assert bproc.nodestatus(1) == "drain"
    assert [node.node for node in bproc.nodespec("up")] == [0, 2]
    with pytest.raises(bproc.NodeDownError, match="n1 is drain"):
        bproc.rexec(1, "/bin/true", ["true"])
    bproc.setnodeattr(1, "state", "up")
    assert bproc.nodestatus(1) == "up"
    bproc.chmod(2, 0o100)
    bproc.chown(2, 54_321)
    bproc.chgrp(2, 54_322)
    assert bproc.nodeinfo(2)[2:5] == (0o100, 54_321, 54_322)
    assert bproc.access(2) == (os.geteuid() == 0)
    for name, value in (("mode", 0o111), ("user", 0), ("group", 0)):
        bproc.setnodeattr(2, name, value)
    assert bproc.nodeinfo(2)[2:5] == (0o111, 0, 0)
    with pytest.raises(bproc.InvalidNodeError):
        bproc.nodesetstatus(99, "up")
    with pytest.raises(bproc.BprocError, match="15") as wrong:
        bproc.nodesetstatus(1, "a-state-of-more-than-fifteen")
    assert wrong.value.errno == errno.EIO


def test_processes_are_listed_by_node_and_found_by_pid(cluster: LocalCluster, library: heorot.Cluster) -> None:
    with library.spawn(["sleep", "1000"], [1, 2, 1]) as job:
        pids = job.wait_started()
        assert {process.pid for process in bproc.proclist(1)} == {pids[0], pids[2]}
        assert bproc.proclist(2) == [bproc.ProcInfo(pids[1], 2)]
        assert bproc.proclist(0) == bproc.proclist(bproc.NODE_MASTER) == []
        assert [bproc.pidnode(pids[rank]) for rank in range(3)] == [1, 2, 1]
        assert bproc.pidnode(os.getpid()) == bproc.NODE_MASTER


def test_a_notifier_is_readable_when_a_node_has_changed(cluster: LocalCluster, library: heorot.Cluster) -> None:
    with bproc.notifier() as watched:
        watched.clear()
        # How many ranks it has is a part of what there is to know of a node.
        with library.spawn(["sleep", "1000"], 1) as job:
            job.wait_started()
            assert select.select([watched], [], [], DEADLINE_S)[0]
            assert watched.clear()


def test_a_child_after_a_fork_has_a_connection_of_its_own(cluster: LocalCluster) -> None:
    assert bproc.numnodes() == 3
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if bproc.numnodes() == 3 else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert bproc.numnodes() == 3


def test_the_module_is_loaded_by_its_name_alone(cluster: LocalCluster, tmp_path: Path) -> None:
    program = "import heorot.bproc; print(heorot.bproc.numnodes(), heorot.bproc.currnode())"
    result = cluster.run(sys.executable, "-W", "error", "-c", program)
    assert (result.stdout, result.stderr) == (b"3 -1\n", b"")
