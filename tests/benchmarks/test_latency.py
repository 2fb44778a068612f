"""The latency benchmark: its published loop decides as the model does, and it measures everything it names."""

import math

import pytest
import torch

from benchmarks import latency
from zoomloc.config import ModelConfig
from zoomloc.model import ZoomModel

CPU = torch.device("cpu")


def test_the_published_loop_decides_as_the_model_does():
    torch.manual_seed(1)
    shape = latency.ENCODERS["tiny"] | {"decoder_heads": 2, "photo_px": 224, "view_px": 224}
    model = ZoomModel(ModelConfig(**shape)).eval()
    for parameter in model.parameters():  # so that choices differ between photos
        torch.nn.init.normal_(parameter, std=0.5)
    files, views = latency._files(2), torch.randint(0, 256, (4, 2, 224, 224, 3), dtype=torch.uint8)
    paths = latency.published_loop(model, files, views, CPU)
    with torch.inference_mode():
        context, cache, expected = model.encode_photos(latency._pixels(files)), model.decoder.start(), []
        for level in range(4):
            logits = model.decoder.step(context, model.encode_views(views[level]), cache)
            expected.append(logits.argmax(-1))
            context = model.decoder.action_embed(expected[-1])
    assert paths.tolist() == torch.stack(expected, dim=1).tolist()
    assert len(set(map(tuple, paths.tolist()))) == 2


@pytest.fixture(scope="module")
def facts():
    found = latency.measure(latency.ENCODERS["tiny"], 2, 1, CPU, large=False)
    return {"encoder": "tiny", "batch": 2, "device": "here", **found}


def test_everything_is_measured(facts):
    assert all(math.isfinite(seconds) and seconds > 0 for seconds in facts["seconds"].values())
    assert facts["cells"] == 4369 and facts["index_bytes_a_cell"] == 2 * 16 * 48


def test_planted_posteriors_are_about_sure(facts):
    assert 0.2 < facts["best_leaf"] <= 1


def test_the_page_names_every_figure(facts):
    page = latency.markdown(facts)
    assert all(f"| {name} |" in page for name in facts["seconds"])
    assert "0.67 GB for the 437,000 cells" in page
