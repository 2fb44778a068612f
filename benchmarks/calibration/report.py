"""What was found as JSON, a Markdown page and plots."""

import json
import shlex
import sys
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy.report import machine
from benchmarks.calibration.measure import UNSEEN, Found, Scores
from zoomloc.evaluate import Outcomes, summary
from zoomloc.files import atomic
from zoomloc.reliability import SHARES, Claims, auroc, plot


def write(found: Found, name: str, out: Path) -> Path:
    """Write calibration-NAME.json, .md and two plots; returns the page. Raises OutputError."""
    stem, told = f"calibration-{name}", facts(found)
    with atomic(out / f"{stem}.json") as draft:
        draft.write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    shown = [data for data in found.after if UNSEEN not in found.after or data not in found.cities]
    claims = {f"{data}, {when}": c for data in shown for when, c in _claims(found, data).items()}
    plot(claims, out / f"{stem}.png")
    plot_scores(found, out / f"{stem}-not-here.png")
    with atomic(out / f"{stem}.md") as draft:
        draft.write_text(page(told, stem), encoding="utf-8")
    return out / f"{stem}.md"


def facts(found: Found) -> dict[str, Any]:
    """Everything that is to be told, as plain values."""
    fitted = found.calibration
    told = {
        "command": shlex.join(["python", "-m", "benchmarks.calibration", *sys.argv[1:]]),
        "checkpoint": str(found.checkpoint),
        "seed": found.seed,
        "date": date.today().isoformat(),
        "machine": machine(),
        "fitted": fitted.model_dump(exclude={"look"}),
        "trust": {
            data: {
                when: {"photos": len(c.within), **_trusted(outcomes)}
                for when, outcomes, c in (
                    ("before", found.before[data], _claims(found, data)["before"]),
                    ("after", found.after[data], _claims(found, data)["after"]),
                )
            }
            for data in found.after
        },
        "photos": len(found.here),
        "false_rejection": _rejected(found, found.here),
        "cities": {city: _told_apart(found, scores) for city, scores in found.cities.items()},
        "pictures": {kind: _told_apart(found, scores) for kind, scores in found.pictures.items()},
        "mistreated": {name: _told_apart(found, scores) for name, scores in found.mistreated.items()},
    }
    for group in ("cities", "pictures"):
        parts = list(getattr(found, group).values())
        told[f"all_{group}"] = _told_apart(found, np.concatenate(parts)) if parts else None
    told["real"] = None if found.real is None else _told_apart(found, found.real)
    return told


def _claims(found: Found, data: str) -> dict[str, Claims]:
    each = {"before": found.before[data].claims, "after": found.after[data].claims}
    return {when: claims for when, claims in each.items() if claims is not None}


def _trusted(outcomes: Outcomes) -> dict[str, Any]:
    metrics = asdict(summary(outcomes))
    return {key: metrics[key] for key in ("recall", "nll", "trust")}


def _told_apart(found: Found, scores: Scores) -> dict[str, float]:
    return {"photos": len(scores), "auroc": auroc(found.here, scores), "rejected": _rejected(found, scores)}


def _rejected(found: Found, scores: Scores) -> float:
    return float((scores > found.calibration.threshold).mean())


def plot_scores(found: Found, path: Path) -> None:
    """Draw how sure the model is that photos of several origins are not from the map. Raises OutputError."""
    from matplotlib.figure import Figure

    groups = {"photos of the map": found.here}
    if found.cities:
        groups["other cities"] = np.concatenate(list(found.cities.values()))
    groups["no street photos"] = np.concatenate(list(found.pictures.values()))
    if found.real is not None:
        groups["real street photos"] = found.real
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, scores in groups.items():
        axes.plot(np.sort(scores), np.linspace(0, 1, len(scores)), label=f"{name} ({len(scores)})")
    axes.axvline(found.calibration.threshold, color="0.5", ls="--", lw=1, label="called not here above")
    axes.set(xlabel="probability of not being on the map", ylabel="share of photos with no more")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic(path) as draft:
        figure.savefig(draft, dpi=120)


def page(told: dict[str, Any], stem: str) -> str:
    """The Markdown page on plain values."""
    place, fitted = told["machine"], told["fitted"]
    temperatures = ", ".join(
        f"{t:.3g} at {side:g} m" for side, t in zip(fitted["side_m"], fitted["temperature"], strict=True)
    )
    own, picture = (fitted["elsewhere"][kind] for kind in ("place", "picture"))
    weights = f"{picture[1]:.3g} of strangeness" + (f", {own[1]:.3g} of the model's own word" if own else "")
    lines = [
        f"# Calibration: {stem.removeprefix('calibration-')}",
        "",
        f"`{told['command']}`, seed {told['seed']}, {told['date']}; {place['cores']} cores, "
        f"Python {place['python']}, torch {place['torch']}.",
        "",
        f"Fitted on {fitted['n_photos']} validation photos of {', '.join(fitted['data'])}"
        + (
            f", with photos of {', '.join(fitted['others'])} as ones from elsewhere"
            if fitted["others"]
            else ""
        )
        + f". Temperatures by the side of a cell: {temperatures}. That a photo is from elsewhere is told by weights "
        f"{weights}.",
        "",
        "## Whether probabilities hold",
        "",
        "Test photos on their own maps. ECE: of P(error < radius), 10 bins of as many photos each; *by chance*: what "
        "as many photos would show if every probability were right. Area: photos taken on the likeliest ground that "
        "holds so much (of the last leaf as much as is needed); circle: within the circle around the answer.",
        "",
        *_rows(["dataset", "", "photos", "R@40 m", "NLL", "ECE", "by chance", *_ways()]),
    ]
    for data, both in told["trust"].items():
        lines += [_line([data, when, *_trust_cells(values)]) for when, values in both.items()]
    lines += ["", f"![Reliability and coverage]({stem}.png)", "", "## Not on this map", ""]
    lines += [
        f"Held against the maps fitted on; {100 * told['false_rejection']:.1f} % of their own {told['photos']} test "
        f"photos are rejected (meant: {100 * fitted['false_rejection']:g} %).",
        "",
        *_rows(["", "photos", "AUROC", "rejected"]),
    ]
    named = [*told["cities"].items(), ("**other cities, all**", told["all_cities"])]
    named += [*told["pictures"].items(), ("**no street photos, all**", told["all_pictures"])]
    named += [(f"the map's own, {name}", values) for name, values in told["mistreated"].items()]
    named += [("**real street photos**", told["real"])]
    for name, values in named:
        if values is not None:
            rejected = f"{100 * values['rejected']:.1f} %"
            lines.append(_line([name, str(values["photos"]), f"{values['auroc']:.3f}", rejected]))
    lines += ["", f"![Probabilities of not being on the map]({stem}-not-here.png)"]
    return "\n".join(lines) + "\n"


def _ways() -> list[str]:
    return [f"{100 * share:g} % {way}" for way in ("area", "circle") for share in SHARES]


def _trust_cells(values: dict[str, Any]) -> list[str]:
    trust = values["trust"]
    held = [f"{100 * share:.1f} %" for share in (*trust["area"].values(), *trust["circle"].values())]
    recall, nll = f"{100 * values['recall'][40]:.1f} %", f"{values['nll']:.3f}"
    return [str(values["photos"]), recall, nll, f"{trust['ece']:.3f}", f"{trust['ece_by_chance']:.3f}", *held]


def _rows(head: list[str]) -> list[str]:
    return [_line(head), _line(["---"] + ["---:"] * (len(head) - 1))]


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
