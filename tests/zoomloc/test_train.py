"""Training: it learns, it resumes to the bit, and several processes are one."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zoomloc.config import load_train_config
from zoomloc.dataset import StepBatches
from zoomloc.encoder import Encoder
from zoomloc.errors import ConfigError, OutputError
from zoomloc.evaluate import evaluate
from zoomloc.localizer import Localizer
from zoomloc.train import train


def weights(out: Path):
    return load_file(out / "checkpoint" / "model.safetensors")


def same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for key in a:
        torch.testing.assert_close(a[key], b[key], **(tolerance or {"rtol": 0, "atol": 0}))


def test_learns(tiny_data, tiny_checkpoint):
    report = evaluate(
        Localizer.from_pretrained(tiny_checkpoint, device="cpu"), tiny_data, searches=["greedy", "posterior"]
    )
    assert report.n_photos == 32
    assert report.metrics["posterior"].recall[40] > 5 * report.metrics["chance"].recall[40]
    assert report.metrics["greedy"].level_accuracy[0] > 5 / 16
    assert (tiny_checkpoint.parent / "log").is_dir()


def test_killed_and_resumed_is_the_same_as_unbroken(tiny_config, tmp_path):
    settings = {
        "optimizer": "muon",  # with AdamW beside it: the state of both must come back
        "steps": 60,
        "checkpoint_minutes": 1e-6,
        "augment": True,
        "grid_jitter_m": 10.0,
        "label_sigma_m": 5.0,
    }
    unbroken = load_train_config(tiny_config(tmp_path / "unbroken", **settings))
    train(unbroken, device="cpu")

    config = tiny_config(tmp_path / "broken", **settings)
    command = [sys.executable, "-m", "zoomloc", "train", str(config), "--device", "cpu"]
    first = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    state = tmp_path / "broken" / "state.pt"
    while not state.exists() and first.poll() is None:
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert 0 < torch.load(state, weights_only=True)["step"] < 60

    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    same(weights(tmp_path / "unbroken"), weights(tmp_path / "broken"))


def test_asked_to_stop_it_saves_first(tiny_config, tmp_path):
    config = tiny_config(tmp_path / "run", steps=100_000, checkpoint_minutes=0.05)
    state = tmp_path / "run" / "state.pt"
    command = [sys.executable, "-m", "zoomloc", "train", str(config), "--device", "cpu"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not state.exists() and run.poll() is None:
        time.sleep(0.01)
    saved = torch.load(state, weights_only=True)["step"]
    time.sleep(0.5)  # the next regular save is three seconds away
    run.send_signal(signal.SIGINT)
    assert "zoomloc: interrupted" in run.communicate()[1]
    assert run.returncode == 130
    assert torch.load(state, weights_only=True)["step"] > saved


def test_two_processes_train_the_same_model_as_one(tiny_config, tmp_path):
    """Started as docs/cluster.md has it, by a torchrun for each; that these are on one machine is all that differs."""
    settings = {"steps": 5, "label_smoothing": 0.1, "own_context": 0.5}
    train(load_train_config(tiny_config(tmp_path / "one", **settings)), device="cpu")
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    [line] = re.findall(r"^torchrun .+$", page, re.MULTILINE)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = line.replace("--nproc-per-node 8", "--nproc-per-node 1 --local-addr 127.0.0.1")
    line = line.replace("head:29500", f"127.0.0.1:{port}")
    line = line.replace("configs/village.toml", str(tiny_config(tmp_path / "two", **settings)))
    words = [sys.executable, "-m", "torch.distributed.run", *line.split()[1:], "--device", "cpu"]
    with (tmp_path / "said").open("wb") as said:
        settings = {"env": os.environ | {"OMP_NUM_THREADS": "1"}, "stdout": said, "stderr": said}
        started = [subprocess.Popen(words, **settings) for _ in range(2)]
        try:
            assert [process.wait(600) for process in started] == [0, 0], (tmp_path / "said").read_text()
        finally:
            for process in started:
                process.kill()
                process.wait()
    same(weights(tmp_path / "one"), weights(tmp_path / "two"), rtol=1e-3, atol=1e-4)


def test_a_batch_in_parts_is_the_batch(tiny_config, tmp_path):
    settings = {"steps": 5, "label_smoothing": 0.1}
    train(load_train_config(tiny_config(tmp_path / "whole", **settings)), device="cpu")
    train(load_train_config(tiny_config(tmp_path / "parts", **settings, accumulate=4)), device="cpu")
    same(weights(tmp_path / "whole"), weights(tmp_path / "parts"), rtol=1e-3, atol=1e-4)
    with pytest.raises(ConfigError, match="batch_size 32 does not divide by 1 processes and 5 parts"):
        train(load_train_config(tiny_config(tmp_path / "odd", **settings, accumulate=5)), device="cpu")


def test_own_context_is_learned_from(tiny_config, tmp_path):
    for name, weight in (("without", 0.0), ("with", 1.0)):
        train(load_train_config(tiny_config(tmp_path / name, steps=2, own_context=weight)), device="cpu")
    without, own = weights(tmp_path / "without"), weights(tmp_path / "with")
    changed = [key for key in own if not torch.allclose(own[key], without[key], rtol=1e-3, atol=1e-5)]
    assert "decoder.output_head.weight" in changed


def test_another_configuration_does_not_continue_a_run(tiny_config, tmp_path):
    train(load_train_config(tiny_config(tmp_path / "run", steps=2)), device="cpu")
    with pytest.raises(ConfigError, match="another configuration"):
        train(load_train_config(tiny_config(tmp_path / "run", steps=3)), device="cpu")


def test_a_finished_run_is_left_as_it_is(tiny_config, tmp_path):
    config = load_train_config(tiny_config(tmp_path / "run", steps=2))
    train(config, device="cpu")
    before = weights(tmp_path / "run")
    train(config, device="cpu")
    same(before, weights(tmp_path / "run"))


@pytest.mark.parametrize("damage", ["cut short", "other bytes", "empty"])
def test_a_damaged_state_is_refused_in_one_line(tiny_config, tmp_path, damage):
    config = load_train_config(tiny_config(tmp_path / "run", steps=1))
    train(config, device="cpu")
    state = tmp_path / "run" / "state.pt"
    whole = state.read_bytes()
    state.write_bytes({"cut short": whole[:5000], "other bytes": b"x" * 5000, "empty": b""}[damage])
    with pytest.raises(ConfigError, match=r"state\.pt is damaged; delete it"):
        train(config, device="cpu")


def test_a_file_in_the_way_of_the_run_is_refused(tiny_config, tmp_path):
    (tmp_path / "file").touch()
    config = load_train_config(tiny_config(tmp_path / "run", steps=2))
    with pytest.raises(OutputError, match="choose another `out`"):
        train(config.model_copy(update={"out": tmp_path / "file"}), device="cpu")


def test_a_region_of_another_depth_is_refused(tiny_config, tmp_path):
    path = tiny_config(tmp_path / "run", steps=2)
    path.write_text(path.read_text().replace("depth = 2", "depth = 3"))
    with pytest.raises(ConfigError, match="depth"):
        train(load_train_config(path), device="cpu")


def test_regions_of_several_depths_are_refused_in_one_line(tiny_data, tiny_config, pointer_model, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(tiny_data, other)
    region = json.loads((other / "region.json").read_text())
    (other / "region.json").write_text(json.dumps(region | {"name": "deeper", "depth": 3}))
    config = load_train_config(tiny_config(tmp_path / "run", steps=1, model=pointer_model))
    with pytest.raises(ConfigError, match="region 'deeper' has depth 3, but 'tiny' 2; train on regions"):
        train(config.model_copy(update={"data": (*config.data, other)}), device="cpu")


def test_batches_cover_every_epoch_once_and_split_between_processes():
    def batches(start=0, rank=0, world=1):
        return list(StepBatches(10, batch_size=4, seed=1, start=start, stop=5, rank=rank, world=world))

    everything = [i for batch in batches() for i in batch]
    assert sorted(everything[:10]) == sorted(everything[10:]) == list(range(10))
    assert everything[:10] != everything[10:]
    assert batches(start=2) == batches()[2:]
    halves = zip(batches(rank=0, world=2), batches(rank=1, world=2), strict=True)
    assert [sorted(a + b) for a, b in halves] == [sorted(batch) for batch in batches()]


def test_a_state_from_before_a_setting_was_known_is_continued(tiny_config, tmp_path):
    config = load_train_config(tiny_config(tmp_path / "run", steps=2))
    train(config, device="cpu")
    state = torch.load(tmp_path / "run" / "state.pt", weights_only=True)
    settings = json.loads(state["config"])
    del settings["labels"]
    torch.save(state | {"config": json.dumps(settings)}, tmp_path / "run" / "state.pt")
    train(config, device="cpu")


def test_training_with_published_labels(tiny_data, tiny_config, tmp_path):
    config = tiny_config(tmp_path / "run", steps=100, labels="published", cache_photos=True)
    checkpoint = train(load_train_config(config), device="cpu")
    localizer = Localizer.from_pretrained(checkpoint, device="cpu")
    report = evaluate(localizer, tiny_data, searches=["greedy"], labels="published")
    assert report.metrics["greedy"].level_accuracy[0] > 5 / 16
    with pytest.raises(ConfigError, match='"published" go with label_sigma_m = 0'):
        load_train_config(tiny_config(tmp_path / "soft", labels="published", label_sigma_m=5.0))


def test_training_begins_with_the_weights_it_is_given(tiny_config, tmp_path):
    config = load_train_config(tiny_config(tmp_path / "run", steps=1, learning_rate=1e-12, weight_decay=0.0))
    torch.manual_seed(7)
    backbone = Encoder(config.model).backbone
    backbone.save_pretrained(tmp_path / "dinov2")
    train(config.model_copy(update={"encoder_weights": tmp_path / "dinov2"}), device="cpu")
    got = weights(tmp_path / "run")["encoder.backbone.embeddings.cls_token"]
    torch.testing.assert_close(got, backbone.embeddings.cls_token.detach())
    for folder, size in ((tmp_path / "nowhere", {}), (tmp_path / "dinov2", {"width": 32})):
        with pytest.raises(ConfigError, match="no DINOv2 weights of the size") as caught:
            Encoder(config.model.model_copy(update=size)).load_weights(folder)
        assert "\n" not in str(caught.value)
