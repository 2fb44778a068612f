"""Images as walks: what a search does to rows leaves every image as if it had been made alone."""

import pytest
import torch

from generation.models.llamagen import LlamaGen, LlamaGenConfig
from generation.models.nar import NAR
from generation.models.var import VAR, VARConfig
from generation.quantize import MultiScaleResidual
from generation.sample import drawn, guided, nucleus
from generation.selection import beam, best_of_n, particles, pieces, resampled, search
from generation.verify import likelihood, lookahead
from generation.walk import CodeWalk

LABELS = torch.tensor([1, 3])


class Images:
    """A model, a walk of it, and how probable it finds images that are given."""

    def __init__(self, kind):
        torch.manual_seed(0)
        if kind is VAR:
            self.model = VAR(VARConfig(2, sides=(1, 2, 3, 4), n_codes=12, code_width=8, n_classes=5)).eval()
            self.quantizer = MultiScaleResidual(12, 8, n_scales=4)
        else:
            self.model = kind(LlamaGenConfig(32, 2, 2, side=3, n_codes=12, n_classes=5)).eval()
            for parameter in self.model.parameters():  # so that codes differ in probability
                parameter.data.mul_(3)
        self.schedule = self.model.schedule

    def begin(self):
        extra = [self.quantizer] if isinstance(self.model, VAR) else []
        return self.model.begin(LABELS, *extra)

    def walk(self, seed=0):
        pick = drawn(torch.Generator().manual_seed(seed))
        processors = [guided(lambda step: 0.5), nucleus(12, 1.0)]
        return CodeWalk(self.begin(), self.schedule, batch=2, pick=pick, processors=processors)

    def log_p(self, codes):
        """Of an image for each label, by teacher forcing."""
        given = torch.cat(codes, dim=1)
        if isinstance(self.model, VAR):
            inputs = self.quantizer.inputs(codes, self.schedule)
            logits = [self.model(labels, inputs) for labels in (LABELS, torch.full_like(LABELS, 5))]
        else:
            given = self.model.token_map(codes).flatten(1)
            logits = [self.model(labels, given) for labels in (LABELS, torch.full_like(LABELS, 5))]
        guided_logits = 1.5 * logits[0] - 0.5 * logits[1]
        return guided_logits.log_softmax(-1).gather(-1, given[..., None]).sum((1, 2))


@pytest.fixture(params=[VAR, LlamaGen, NAR])
def images(request):
    return Images(request.param)


def few_zeros(walk):
    """A verifier: codes of 0 are to be avoided."""
    return -torch.cat(walk.codes, dim=1).eq(0).sum(1).float()


def plans(n_steps):
    generator = torch.Generator().manual_seed(1)

    def thin(step, n):
        return resampled(few_zeros, n, strength=10, generator=generator)

    return {
        "best of n": best_of_n(4, few_zeros, n_steps=n_steps),
        "beam": beam(2, 3, likelihood, n_steps=n_steps),
        "lookahead": beam(2, 2, lookahead(few_zeros), n_steps=n_steps),
        "particles": particles([4] + [3] * (n_steps - 2) + [2], thin, few_zeros),
        "pieces": pieces(3, [1, 2], lambda walk: few_zeros(walk) + 1, few_zeros, n_steps=n_steps),
    }


@pytest.mark.parametrize("name", ["best of n", "beam", "lookahead", "particles", "pieces"])
@torch.no_grad()
def test_whatever_the_search_an_image_is_as_probable_as_by_itself(images, name):
    walk = search(images.walk(), plans(len(images.schedule))[name])
    assert [len(code) for code in walk.codes] == [2] * len(images.schedule)
    torch.testing.assert_close(walk.log_p, images.log_p(walk.codes), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_searching_makes_images_better_in_the_eyes_of_the_verifier(images):
    def mean_score(plan):
        return torch.stack([few_zeros(search(images.walk(seed), plan)) for seed in range(8)]).mean()

    n_steps = len(images.schedule)
    single = mean_score({})
    assert mean_score(best_of_n(6, few_zeros, n_steps=n_steps)) > single
    assert mean_score(beam(2, 3, few_zeros, n_steps=n_steps)) > single


@torch.no_grad()
def test_a_greedy_step_draws_nothing(images):
    walk, again = images.walk(seed=0), images.walk(seed=5)
    while walk.at < walk.n_steps:
        walk.step(greedy=True)
        again.step(greedy=True)
    assert all((a == b).all() for a, b in zip(walk.codes, again.codes, strict=True))


@torch.no_grad()
def test_what_is_tried_and_taken_back_leaves_no_trace(images):
    walk = images.walk()
    walk.step()
    mark = walk.mark()
    walk.step(greedy=True)
    walk.step(greedy=True)
    tried = [code.clone() for code in walk.codes]
    walk.undo(mark)
    assert walk.at == 1 and len(walk.codes) == 1
    walk.step(greedy=True)
    walk.step(greedy=True)
    assert all((a == b).all() for a, b in zip(walk.codes, tried, strict=True))
