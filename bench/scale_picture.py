"""``python -m bench.scale_picture LAUNCHES BROADCASTS PICTURE``: draws what `heorot.sim.timed.scale --json` wrote."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FLAT, PEERS = "flat", "peers"
FLAT_COLOUR = "tab:red"


def _rows(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"]
    return rows


def _series(rows: list[dict[str, Any]], fanout: int | str, key: str) -> tuple[list[int], list[float]]:
    points = sorted((row["nodes"], row[key]) for row in rows if row["fanout"] == fanout)
    return [nodes for nodes, _ in points], [value for _, value in points]


def _fanouts(rows: list[dict[str, Any]]) -> list[int | str]:
    numbers = sorted({row["fanout"] for row in rows if isinstance(row["fanout"], int)})
    return [*numbers, FLAT, PEERS]


def draw(launches: list[dict[str, Any]], broadcasts: list[dict[str, Any]], path: Path) -> None:
    """Write a PNG: launch time, head's CPU, and broadcast by its bound; each over the number of nodes.

    Raises
    ------
    ModuleNotFoundError
        If matplotlib, an extra, is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    launches = [row for row in launches if row["gbit"] == min(row["gbit"] for row in launches)]
    figure, (times, heads, images) = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    for rows, axes, key, label in (
        (launches, times, "wall_s", "seconds"),
        (launches, heads, "head_cpu_s", "seconds"),
        (broadcasts, images, "ratio", "times the lower bound"),
    ):
        for number, fanout in enumerate(_fanouts(rows)):
            nodes, values = _series(rows, fanout, key)
            style = {"color": FLAT_COLOUR, "linestyle": "--"} if fanout == FLAT else {"color": f"C{number + 4}"}
            name = f"fan-out {fanout}" if isinstance(fanout, int) else fanout
            if nodes:
                axes.plot(nodes, values, marker="o", label=name, **style)
        axes.set(xscale="log", yscale="log", xlabel="nodes", ylabel=label)
        axes.grid(alpha=0.3)
    times.axhline(3, color="tab:gray", linestyle=":", label="goal: 3 s")
    times.set_title("bpsh -a /bin/true")
    heads.set_title("CPU time of the head for it")
    images.set_title("16 MiB to all nodes, links of 1 Gbit/s")
    for axes in (times, heads, images):
        axes.legend(fontsize=8)
    figure.suptitle(
        "Virtual time: the real core with costs measured on real clusters of 64 and 256 nodes; a host for each node",
        fontsize=9,
    )
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(arguments: list[str]) -> int:
    """Draw; return the status to exit with."""
    if len(arguments) != 3:
        print((__doc__ or "").splitlines()[0], file=sys.stderr)
        return 2
    try:
        draw(_rows(Path(arguments[0])), _rows(Path(arguments[1])), Path(arguments[2]))
    except ModuleNotFoundError:
        print("scale: no picture: it needs matplotlib, an extra", file=sys.stderr)
        return 1
    except (OSError, ValueError, KeyError) as error:
        print(f"scale: no picture: {error!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
