"""Draws the logs of one or more runs over one another: `corpusmill train plot RUN…`."""

import math
import warnings
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator
from numpy.typing import NDArray

from corpusmill.schemas.errors import UsageError
from corpusmill.train.monitor import LOG, read_log

__all__ = ["plot"]

Records = list[dict[str, Any]]
Floats = NDArray[np.float64]

_SUFFIXES = (".svg", ".png", ".pdf")
_COLORS = ("#2563b0", "#d9622b", "#2a9d5c", "#8e5ab5", "#c2407f", "#8a7200", "#139faf", "#666666")
_LANGUAGE_COLORS = ("#d9622b", "#2a9d5c", "#8e5ab5", "#c2407f", "#8a7200", "#139faf")
_DASHES: tuple[Any, ...] = ((0, (4, 1.5)), (0, (1.2, 1)), (0, (6, 1.5, 1.2, 1.5)))
_STYLE: Any = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#999999",
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "font.size": 9,
    "grid.color": "#ebebeb",
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "savefig.dpi": 150,
    "svg.fonttype": "none",
    "svg.hashsalt": "corpusmill",
}


def plot(
    runs: Sequence[str | Path], out: str | Path | None = None, *, over: Literal["tokens", "steps"] = "tokens"
) -> Path:
    """Draw loss, bits per byte, learning rate, gradient norm and speed.

    The same logs give the same bytes. Over a noisy quantity lies its exponential moving average.

    Args:
        runs: run folders, local.
        out: .svg, .png or .pdf; None: plot.svg in the first run.
        over: what stands on the horizontal axis.

    Returns:
        The file that was written.

    Raises:
        UsageError: a run has no log, or the suffix of `out` is another.
    """
    target = Path(runs[0]) / "plot.svg" if out is None else Path(out)
    if target.suffix not in _SUFFIXES:
        raise UsageError(f"--out {target}: the name must end in {', '.join(_SUFFIXES)}")
    logs = dict(zip(_labels(runs), [_read(Path(run)) for run in runs], strict=True))
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a browser has one for the name of the run
        figure = _draw(logs, over)
        target.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(target, metadata={".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(target.suffix))
    return target


def _labels(runs: Sequence[str | Path]) -> list[str]:
    """Names of the folders; the paths where two have the same name."""
    names = [Path(run).resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _read(run: Path) -> Records:
    path = run / LOG
    if not path.is_file():
        raise UsageError(f"{run} is not the folder of a training run: there is no {path}")
    records = read_log(path)
    if not records:
        raise UsageError(f"there is nothing to plot: {path} has no step yet")
    return records


def _draw(logs: dict[str, Records], over: Literal["tokens", "steps"]) -> Figure:
    x_name = {"tokens": "tokens", "steps": "step"}[over]
    figure = Figure(figsize=(11, 6.2), layout="constrained")
    grid = figure.add_gridspec(2, 6, height_ratios=(3, 2))
    loss, bits = figure.add_subplot(grid[0, :4]), figure.add_subplot(grid[0, 4:])
    rate, norm, speed = (figure.add_subplot(grid[1, i : i + 2]) for i in (0, 2, 4))
    for (label, records), color in zip(logs.items(), cycle(_COLORS), strict=False):
        x = _column(records, x_name)
        rate.plot(x, _column(records, "lr"), color=color, label=label)
        for axes, name in ((loss, "loss"), (norm, "grad_norm"), (speed, "tokens_per_second")):
            _noisy(axes, x, _column(records, name), color)
    _draw_bits(bits, logs, x_name)
    figure.legend(handles=rate.get_lines(), loc="outside upper left", ncols=min(len(logs), 4))
    titles = ("training loss (nats a token)", "bits per byte", "learning rate", "gradient norm", "tokens a second")
    for axes, title in zip((loss, bits, rate, norm, speed), titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel(over)
        axes.margins(x=0.02)
        axes.xaxis.set_major_formatter(_short)
    norm.set_yscale("log")
    norm.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    norm.yaxis.set_major_formatter("{x:g}")
    norm.yaxis.set_minor_formatter("")
    speed.yaxis.set_major_formatter(_short)
    for axes in (rate, speed):
        axes.set_ylim(bottom=0)
    return figure


def _draw_bits(axes: Axes, logs: dict[str, Records], x_name: str) -> None:
    """All documents as a solid line; languages dashed, in colours of their own where there is but one run."""
    evaluated = [[record for record in records if "eval" in record] for records in logs.values()]
    languages = sorted({name for records in evaluated for record in records for name in record["eval"]["languages"]})
    shown: dict[str, Line2D] = {}
    for records, color in zip(evaluated, cycle(_COLORS), strict=False):
        x = _column(records, x_name)
        (shown["all"],) = axes.plot(x, _column([r["eval"] for r in records], "bits_per_byte"), "o-", ms=3, color=color)
        for name, dashes, own in zip(languages, cycle(_DASHES), cycle(_LANGUAGE_COLORS), strict=False):
            y = _column([r["eval"]["languages"] for r in records], name)
            one = color if len(logs) > 1 else own
            (shown[name],) = axes.plot(x, y, "o", ms=2, color=one, linestyle=dashes, linewidth=1.2)
    if languages:
        legend = axes.legend(shown.values(), shown.keys(), ncols=1 + len(languages) // 6, fontsize=8)
        if len(logs) > 1:
            for line in legend.get_lines():
                line.set_color("#555555")
    if not any(evaluated):
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no evaluation yet", color="#888888", ha="center", transform=axes.transAxes)


def _noisy(axes: Axes, x: Floats, y: Floats, color: str) -> None:
    """The values thin and pale, as pixels where vectors would make a large file, under their moving average."""
    axes.plot(x, y, color=color, linewidth=0.6, alpha=0.35, rasterized=len(x) > 2000)
    axes.plot(x, _smooth(y), color=color)


def _smooth(values: Floats) -> Floats:
    """Exponential moving average that starts unbiased (as in Adam, Kingma & Ba 2015, section 3).

    The half-life is a fiftieth of the run, less at its beginning, where the average would trail a steep fall; nan
    counts nothing.
    """
    total, weight, out = 0.0, 0.0, np.full_like(values, np.nan)
    for i, value in enumerate(values.tolist()):
        keep = 0.5 ** (1 / max(1.0, min(i / 20, len(values) / 50)))
        if not math.isnan(value):
            total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        if weight:
            out[i] = total / weight
    return out


def _column(records: Records, name: str) -> Floats:
    """float64[n]; nan where a record has no such number."""
    return np.array([record.get(name) for record in records], dtype=np.float64)


def _short(value: float, _: float) -> str:
    """A tick: 1.5M, 20B."""
    for scale, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= scale:
            return f"{value / scale:g}{suffix}"
    return f"{value:g}"
