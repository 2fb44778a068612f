"""The benchmarks of exports and of the service: their pages are what they make of their numbers."""

import json
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime", reason="ONNX RUNTIME ABSENT: no exported model was run")

from benchmarks import export, service

RESULTS = Path(__file__).parents[2] / "docs" / "results"


def test_the_page_on_exports_has_their_numbers():
    facts = json.loads((RESULTS / "export.json").read_text())
    found = {}
    for name, values in facts["contenders"].items():
        recall = {int(metres): share for metres, share in values["recall"].items()}
        found[name] = export.Found(**values | {"recall": recall})
    assert export.markdown(facts, found) == (RESULTS / "export.md").read_text()
    assert list(found) == ["PyTorch", export.WHOLE, export.SMALL, export.REFITTED]


def test_the_page_on_the_service_has_its_numbers_and_nothing_is_lost():
    figures = json.loads((RESULTS / "service.json").read_text())
    assert service.markdown(figures) == (RESULTS / "service.md").read_text()
    under_load, alone = figures["batched"], figures["one at a time"]
    assert under_load["lost"] == under_load["crossed"] == 0 and under_load["seconds"] >= 120
    assert figures["gain"] == pytest.approx(under_load["answers_per_s"] / alone["answers_per_s"], abs=0.01)
