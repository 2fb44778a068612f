"""Losses of models that make tokens in steps."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from generation.losses import cross_entropy, self_rollout
from generation.models.var import VAR, VARConfig
from generation.quantize import MultiScaleResidual
from generation.schedule import raster, scales

SCHEDULE = scales([1, 2, 3])


def test_all_tokens_weigh_alike_unless_steps_are_given_weights():
    torch.manual_seed(0)
    logits, codes = torch.randn(2, 14, 5), torch.randint(0, 5, (2, 14))
    each = F.cross_entropy(logits.flatten(0, 1), codes.flatten(), reduction="none").view(2, 14).mean(0)
    torch.testing.assert_close(cross_entropy(logits, codes, SCHEDULE), each.mean())
    by_step = (1 * each[0] + 2 * each[1:5].mean() + 5 * each[5:].mean()) / 8
    torch.testing.assert_close(cross_entropy(logits, codes, SCHEDULE, [1, 2, 5]), by_step)
    targets = F.one_hot(codes, 5).float()
    torch.testing.assert_close(cross_entropy(logits, targets, SCHEDULE), each.mean())


def test_the_second_pass_sees_the_own_choices_and_leaves_out_the_first_step():
    torch.manual_seed(0)
    teacher, student = torch.randn(2, 14, 5, requires_grad=True), torch.randn(2, 14, 5)
    seen = []

    def predict(codes):
        seen.append(codes)
        return student

    loss = self_rollout(predict, teacher, SCHEDULE)
    own = teacher.argmax(-1)
    assert (seen[0] == own).all()
    torch.testing.assert_close(loss, F.cross_entropy(student[:, 1:].flatten(0, 1), own[:, 1:].flatten()))
    assert not loss.requires_grad, "the first pass is the teacher, and does not learn from the second"
    truth = torch.randint(0, 5, (2, 14))
    loss = self_rollout(predict, teacher, SCHEDULE, wanted=lambda _: truth)
    torch.testing.assert_close(loss, F.cross_entropy(student[:, 1:].flatten(0, 1), truth[:, 1:].flatten()))


def test_own_choices_may_be_drawn():
    teacher = torch.tensor([0.2, 0.8]).log().expand(1, 2500, 2)
    seen = []
    generator = torch.Generator().manual_seed(0)
    self_rollout(lambda own: seen.append(own) or teacher, teacher, raster(50), generator=generator)
    assert float(seen[0].float().mean()) == pytest.approx(0.8, abs=0.03)


class Copier(nn.Module):
    """Predicts a token from the one before it and from a noisy hint of what it should be."""

    def __init__(self):
        super().__init__()
        self.before, self.hint, self.out = nn.Embedding(9, 32), nn.Linear(8, 32), nn.Linear(32, 8)

    def forward(self, hint, codes):
        shifted = F.pad(codes[:, :-1], (1, 0), value=8)
        return self.out(F.gelu(self.before(shifted) + self.hint(hint)))


def trained(weight):
    """A toy of exposure bias: all tokens of a sequence are the same one, so that under true choices the token before is
    to be trusted and the hint is not needed. Returns the loss on contexts of the model's own, on unseen sequences."""
    generator = torch.Generator().manual_seed(0)

    def draw(n):
        codes = torch.randint(0, 8, (n, 1), generator=generator).expand(n, 9)
        noise = torch.randn(n, 9, 8, generator=generator)
        return F.one_hot(codes, 8) + noise, codes

    torch.manual_seed(1)
    model = Copier()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        hint, codes = draw(128)
        logits = model(hint, codes)
        loss = cross_entropy(logits, codes, raster(3))
        if weight:
            own = self_rollout(lambda c, h=hint: model(h, c), logits, raster(3), wanted=lambda _, c=codes: c)
            loss = loss + weight * own
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hint, codes = draw(2000)
    own = codes.clone()
    with torch.no_grad():
        for at in range(8):  # contexts truly its own: each choice made after those before it
            own[:, at] = model(hint, own)[:, at].argmax(-1)
        return float(F.cross_entropy(model(hint, own)[:, -1], codes[:, -1]))


def test_training_on_own_choices_lowers_the_loss_on_own_contexts():
    assert trained(1.0) < 0.9 * trained(0.0)


def trained_var(weight):
    """How far a VAR of smooth latents, after a few steps, says something else after its own choices, on others."""
    torch.manual_seed(0)
    tokenizer = MultiScaleResidual(16, 8, n_scales=3).requires_grad_(False)
    tokenizer.embedding.weight.normal_()
    model = VAR(VARConfig(1, sides=(1, 2, 4), n_codes=16, code_width=8, n_classes=1))
    labels, sizes = torch.zeros(32, dtype=torch.long), [len(step) for step in model.schedule]
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def predict(codes):
        return model(labels, tokenizer.inputs(list(codes.split(sizes, dim=1)), model.schedule))

    def losses():
        latent = F.interpolate(2 * torch.randn(32, 8, 2, 2), size=(4, 4), mode="bilinear")
        codes = torch.cat(tokenizer.encode(latent, model.schedule), dim=1)
        teacher = predict(codes)
        own = self_rollout(predict, teacher, model.schedule)
        return cross_entropy(teacher, codes, model.schedule), own

    for _ in range(25):
        teacher, own = losses()
        optimizer.zero_grad()
        (teacher + weight * own).backward()
        optimizer.step()
    with torch.no_grad():
        return float(losses()[1] + losses()[1])


def test_a_var_learns_to_say_the_same_after_its_own_choices():
    assert trained_var(1.0) < 0.6 * trained_var(0.0)
