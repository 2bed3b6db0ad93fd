"""A picture of the launches: wall time over nodes, with the floor and the goals."""

from __future__ import annotations

from pathlib import Path

from bench.machine import sentence
from bench.results import Report, Series


def draw(report: Report, path: Path) -> bool:
    """Write a PNG; return False if matplotlib, an extra, is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ModuleNotFoundError:
        return False
    series = {row.key: row.series for row in report.rows}
    nodes = sorted(int(key.removeprefix("floor-")) for key in series if key.startswith("floor-"))
    if not nodes:
        return False
    figure, (times, quotients) = pyplot.subplots(1, 2, figsize=(11, 4.4), layout="constrained")
    floors = [series[f"floor-{count}"] for count in nodes]
    walls = [series[f"bpsh-all-{count}"] for count in nodes]
    _line(times, nodes, floors, "floor: posix_spawn on all cores", "tab:gray")
    _line(times, nodes, walls, "bpsh -a /bin/true", "tab:blue")
    goal = [floor.median * 4 for floor in floors]
    times.plot(nodes, goal, ":", color="tab:red", label="4 x the floor")
    times.set(xscale="log", yscale="log", xlabel="nodes", ylabel="seconds", title="Wall time of the whole command")
    times.set_xticks(nodes, [str(count) for count in nodes])
    times.minorticks_off()
    times.legend()
    times.grid(alpha=0.3)
    labels = [str(count) for count in nodes]
    ratios = [series[f"bpsh-all-{count}-ratio"] for count in nodes]
    quotients.boxplot([ratio.values for ratio in ratios], tick_labels=labels, widths=0.5)
    quotients.axhline(4, color="tab:red", linestyle=":", label="goal: at most 4")
    quotients.axhline(2.5, color="tab:green", linestyle=":", label="aim: 2.5")
    quotients.set(xlabel="nodes", ylabel="times the floor", title="By the floor, each repetition", ylim=(0, None))
    quotients.legend()
    quotients.grid(alpha=0.3)
    figure.suptitle(f"Measured on {sentence(report.machine)}", fontsize=9)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
    return True


def _line(axes: object, nodes: list[int], series: list[Series], label: str, colour: str) -> None:
    axes.plot(nodes, [one.median for one in series], "o-", color=colour, label=label)  # type: ignore[attr-defined]
    low, high = [one.quantile(0.25) for one in series], [one.quantile(0.75) for one in series]
    axes.fill_between(nodes, low, high, color=colour, alpha=0.2)  # type: ignore[attr-defined]
