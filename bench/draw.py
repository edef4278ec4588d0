"""Draws docs/benchmarks.md and its plots from the JSON of `bench.curves`.

Role: one SVG per plot, by matplotlib (the extra `bench`), and one page with a sentence under each that is made of the
same numbers, so that text and picture cannot disagree. The same JSON gives the same files, byte for byte.

    python bench/draw.py JSON DIRECTORY     writes DIRECTORY/benchmarks.md and DIRECTORY/benchmarks/*.svg

Thread: the main one. Upstream: none. Left out: error bars (a band is the 10th to the 90th percentile).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from bench.curves import GATE, HAND, OURS, PIPELINE, SCHEMA_VERSION, TIMER, YIELD
from bench.drain import EVENT, TIMER_10
from bench.tables import number

Points = Mapping[float, tuple[float, float, float]]
Lines = Mapping[str, Points]

ARGUMENTS = 2
COLOURS = ("#c0392b", "#1f6f8b", "#7d6608", "#6c3483", "#4d5656")


@dataclass(frozen=True, slots=True)
class Plot:
    """One picture. log_x, log_y: the scales.  say: the sentence, from the curves' names and medians."""

    key: str
    title: str
    x: str
    y: str
    say: Callable[[Lines], str]
    log_x: bool = True
    log_y: bool = True
    bars: bool = False


def median(lines: Lines, name: str, x: float) -> float:
    """One point's median. Raises KeyError."""
    return lines[name][x][0]


def _ends(lines: Lines, name: str) -> tuple[float, float, float, float]:
    first, last = min(lines[name]), max(lines[name])
    return first, last, median(lines, name, first), median(lines, name, last)


def _drain_connections(lines: Lines) -> str:
    first, last, at_first, at_last = _ends(lines, EVENT)
    return (
        f"Going on where the last reply is taken costs {number(at_first)} us with {first:.0f} connections per node and "
        f"{number(at_last)} us with {last:.0f}; a poll waits for its turn whatever there is to drain."
    )


def _drain_in_flight(lines: Lines) -> str:
    first, last, at_first, at_last = _ends(lines, EVENT)
    return (
        f"The number of replies that are waited for does not matter either: {number(at_first)} us with {first:.0f} in "
        f"flight on each connection, {number(at_last)} us with {last:.0f}. The time starts at the last of them."
    )


def _drain_interval(lines: Lines) -> str:
    first, last, at_first, at_last = _ends(lines, TIMER)
    return (
        f"A poll is late by up to its interval, half of it on average (here {number(at_first)} us at {first:.0f} ms, "
        f"{number(at_last)} us at {last:.0f} ms); even the shortest is "
        f"{number(at_first / median(lines, EVENT, first))} times as late as the event, which has no interval."
    )


def _drain_policy(lines: Lines) -> str:
    at = {name: next(iter(points.values()))[0] for name, points in lines.items()}
    return (
        f"The event is seen {number(at[TIMER_10] / at[EVENT])} times sooner than by a 10 ms poll on the loop, and "
        f"{number(at[GATE] / at[EVENT])} times sooner than by a thread that must be woken; the write-up's way, yields "
        f"of the main thread, takes {number(at[YIELD])} us."
    )


def _throughput_connections(lines: Lines) -> str:
    first, last, at_first, at_last = _ends(lines, OURS)
    return (
        f"Commands per second grow from {number(at_first)} on {first:.0f} connection to {number(at_last)} on "
        f"{last:.0f}, {at_last / median(lines, HAND, last):.2f} of a loop without states and counts, and "
        f"{number(at_last / median(lines, PIPELINE, last))} times redis-py's pipelines."
    )


def _throughput_in_flight(lines: Lines) -> str:
    first, last, at_first, at_last = _ends(lines, OURS)
    return (
        f"More in flight means more replies per read, and each read's cost is shared: {number(at_first)} commands per "
        f"second with {first:.0f} in flight on each of 13 connections ({at_first / median(lines, HAND, first):.2f} of "
        f"the bare loop), {number(at_last)} with {last:.0f} ({at_last / median(lines, HAND, last):.2f})."
    )


def _pool(lines: Lines) -> str:
    threads = max(lines["Thpool, batches of 64"])
    ratios = {
        how: median(lines, f"Thpool, {how}", threads) / median(lines, f"ThreadPoolExecutor, {how}", threads)
        for how in ("one at a time", "batches of 64")
    }
    return (
        f"No-op jobs need no second thread, so more threads are no gain in one interpreter. With {threads:.0f} of them "
        f"Thpool runs {ratios['batches of 64']:.1f} times the executor's jobs in batches, and "
        f"{ratios['one at a time']:.2f} times as many when each is waited for."
    )


DRAIN_Y = "last reply -> drain seen complete, us"
PLOTS = (
    Plot("drain-connections", "Drain completion over connections", "connections per node (3 nodes)", DRAIN_Y,
         _drain_connections),
    Plot("drain-in-flight", "Drain completion over replies in flight", "in flight on each surplus connection", DRAIN_Y,
         _drain_in_flight),
    Plot("drain-poll-interval", "Drain completion over the poll's interval", "poll interval, ms", DRAIN_Y,
         _drain_interval),
    Plot("drain-policy", "Drain completion by policy", "", DRAIN_Y, _drain_policy, bars=True),
    Plot("throughput-connections", "Commands per second over connections, 16 in flight on each", "connections",
         "commands/s", _throughput_connections),
    Plot("throughput-in-flight", "Commands per second over commands in flight, 13 connections",
         "in flight on each connection", "commands/s", _throughput_in_flight),
    Plot("pool-threads", "Thread pool over its threads, no-op jobs", "threads", "jobs/s", _pool),
)  # fmt: skip


def read(path: Path) -> tuple[dict[str, Any], dict[str, Lines]]:
    """The facts, and the lines of each plot. Raises OSError, ValueError, KeyError."""
    data = json.loads(path.read_text())
    if data["schema"] != SCHEMA_VERSION:
        raise ValueError(f"{path}: schema {data['schema']}, and not {SCHEMA_VERSION}")
    lines: dict[str, dict[str, Points]] = {}
    for curve in data["curves"]:
        lines.setdefault(curve["plot"], {})[curve["name"]] = {
            x: (median, low, high) for x, median, low, high in curve["points"]
        }
    return data, dict(lines)


def draw(plot: Plot, lines: Lines, path: Path) -> None:
    """Write one SVG. Raises ImportError without matplotlib."""
    import matplotlib  # here, so that the tests of the rest need none

    matplotlib.use("svg")
    from matplotlib import pyplot

    options = {"svg.hashsalt": plot.key, "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False,
               "axes.spines.right": False}  # fmt: skip
    with matplotlib.rc_context(options):
        figure, axes = pyplot.subplots(figsize=(7, 3.4), layout="constrained")
        for place, (name, points) in enumerate(lines.items()):
            colour, xs = COLOURS[place % len(COLOURS)], sorted(points)
            medians, lows, highs = ([points[x][part] for x in xs] for part in range(3))
            if plot.bars:
                spread = [[medians[0] - lows[0]], [highs[0] - medians[0]]]
                axes.barh([name], medians, xerr=spread, color=colour, ecolor="#444444", capsize=3, height=0.6)
            else:
                axes.plot(xs, medians, marker="o", markersize=4, color=colour, label=name)
                axes.fill_between(xs, lows, highs, color=colour, alpha=0.15, linewidth=0)
        if plot.bars:
            axes.set(xscale="log", xlabel=plot.y)
            axes.invert_yaxis()
        else:
            ticks = sorted({x for points in lines.values() for x in points})
            axes.set(xscale="log" if plot.log_x else "linear", yscale="log" if plot.log_y else "linear",
                     xlabel=plot.x, ylabel=plot.y)  # fmt: skip
            axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axes.minorticks_off()
            figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8)
        axes.set_title(plot.title, loc="left", fontsize=10)
        axes.grid(alpha=0.25)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
        pyplot.close(figure)


def page(data: Mapping[str, Any], by_plot: Mapping[str, Lines]) -> str:
    """docs/benchmarks.md."""
    machine = dict(data["machine"])
    load = ", ".join(f"{value:.1f}" for value in machine.pop("load_average"))
    words = ", ".join(f"{key} {value}" for key, value in machine.items())
    parts = [
        "# How cost grows\n",
        "Made by `make bench-docs` from [benchmarks/curves.json](benchmarks/curves.json); do not edit by hand. Lines "
        "are medians, bands reach from the 10th to the 90th percentile. At each point the contenders took turns, so "
        "compare lines with each other, and none with another machine's. What is measured, and where we lose: "
        "[bench/README.md](../bench/README.md).\n",
        f"This run: {data['at']}, effort {data['effort']}; {words}; load average at the start {load}.\n",
    ]
    for plot in PLOTS:
        if plot.key in by_plot:
            picture = f"![{plot.title}](benchmarks/{plot.key}.svg)\n"
            parts += [f"## {plot.title}\n", picture, f"{plot.say(by_plot[plot.key])}\n"]
    return "\n".join(parts)


def main(arguments: Sequence[str]) -> int:
    """Draw all. Exit status 2 for wrong arguments or a file that is none of ours, 3 without matplotlib."""
    if len(arguments) != ARGUMENTS:
        print("usage: bench/draw.py JSON DIRECTORY", file=sys.stderr)
        return 2
    directory = Path(arguments[1])
    try:
        data, by_plot = read(Path(arguments[0]))
        text = page(data, by_plot)
        (directory / "benchmarks").mkdir(parents=True, exist_ok=True)
        for plot in PLOTS:
            if plot.key in by_plot:
                draw(plot, by_plot[plot.key], directory / "benchmarks" / f"{plot.key}.svg")
        (directory / "benchmarks.md").write_text(text)
    except ImportError as err:
        print(f"bench/draw.py: {err}; install the extra: pip install -e '.[bench]'", file=sys.stderr)
        return 3
    except (OSError, ValueError, KeyError) as err:
        print(f"bench/draw.py: {arguments[0]}: {err!r}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
