"""One step of the CycleGAN on networks simple enough for a manual calculation: every term and every update.

The generators are x -> w x + b and the discriminators x -> u x + v at every pixel. The objective is calculated below in
NumPy, and its gradients by central differences.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from heartseg.translation import trainer as module
from heartseg.translation.presets import REFERENCE, Settings
from heartseg.translation.slices import Scaling
from heartseg.translation.trainer import Trainer

RATE = 0.01
PLAIN = replace(
    REFERENCE,
    optimizer="sgd",
    momentum=0.0,
    learning_rate=RATE,
    cycle=3.0,
    identity=0.25,
    pool=0,
    steps=8,
    epochs=8,
    constant_epochs=4,
    batch=2,
    patch=32,
)
GENERATORS = {"mr2ct": (0.8, 0.3), "ct2mr": (-0.7, 0.1)}
CRITICS = {"MR": (0.6, -0.2), "CT": (-0.4, 0.5)}
REAL = {
    m: np.random.default_rng(seed).uniform(-1, 1, (2, 1, 32, 32)).astype(np.float32)
    for m, seed in (("MR", 1), ("CT", 2))
}


class Affine(nn.Module):
    """x -> w x + b."""

    def __init__(self, *_: object) -> None:
        super().__init__()
        self.w, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w * x + self.b

    @property
    def values(self) -> tuple[float, float]:
        return self.w.item(), self.b.item()

    def set(self, w: float, b: float) -> None:
        with torch.no_grad():
            self.w.fill_(w)
            self.b.fill_(b)


class Slices:
    """Returns the same two slices at every step, and records the requests."""

    files, places, scaling = (), ((0, 0),), Scaling("window", -1.0, 1.0, (-1.0, 1.0))

    def __init__(self, modality: str) -> None:
        self.modality = modality
        self.asked: list[tuple[int, ...]] = []

    def batch(self, *arguments: int) -> torch.Tensor:
        self.asked.append(arguments)
        return torch.from_numpy(REAL[self.modality])


def trainer_of_slices(folder: Path, settings: Settings) -> Any:
    """Return a trainer whose domains are stand-ins."""
    mr: Any = Slices("MR")
    ct: Any = Slices("CT")
    return Trainer(mr, ct, folder, settings)


@pytest.fixture
def new(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[Settings], Any]:
    """Return a function that makes trainers of affine networks with the weights above."""
    monkeypatch.setattr(module, "ResNetGenerator", Affine)
    monkeypatch.setattr(module, "PatchDiscriminator", Affine)

    def make(settings: Settings) -> Any:
        trainer = trainer_of_slices(tmp_path, settings)
        for networks, weights in ((trainer.generators, GENERATORS), (trainer.critics, CRITICS)):
            for name, network in networks.items():
                network.set(*weights[name])
        for name, network in trainer.average.items():
            network.set(*GENERATORS[name])
        return trainer

    return make


def adversarial(judged: np.ndarray, real: bool, kind: str) -> float:
    if kind == "lsgan":
        return ((judged - float(real)) ** 2).mean()
    p = 1 / (1 + np.exp(-judged))
    return -np.log(p if real else 1 - p).mean()


def edges(a: np.ndarray, b: np.ndarray) -> float:
    """Return 1 - the mean over the images of the correlation of their gradient magnitudes."""
    found = []
    for one, other in zip(a[:, 0], b[:, 0], strict=True):
        g, h = (np.sqrt((x[1:, :-1] - x[:-1, :-1]) ** 2 + (x[:-1, 1:] - x[:-1, :-1]) ** 2 + 1e-6) for x in (one, other))
        found.append(np.corrcoef(g.ravel(), h.ravel())[0, 1])
    return 1 - float(np.mean(found))


def terms_of_generators(weights: np.ndarray, s: Settings) -> list[float]:
    """Return adversarial, cycle, identity and edge term for the generators' weights (w, b of mr2ct, then of ct2mr)."""
    mr, ct = (REAL[m].astype(np.float64) for m in ("MR", "CT"))

    def to_ct(x: np.ndarray) -> np.ndarray:
        return weights[0] * x + weights[1]

    def to_mr(x: np.ndarray) -> np.ndarray:
        return weights[2] * x + weights[3]

    def judge(m: str, x: np.ndarray) -> np.ndarray:
        return CRITICS[m][0] * x + CRITICS[m][1]

    fooled = adversarial(judge("CT", to_ct(mr)), True, s.loss) + adversarial(judge("MR", to_mr(ct)), True, s.loss)
    cycle = np.abs(to_mr(to_ct(mr)) - mr).mean() + np.abs(to_ct(to_mr(ct)) - ct).mean()
    same = np.abs(to_ct(ct) - ct).mean() + np.abs(to_mr(mr) - mr).mean()
    return [
        fooled,
        cycle,
        same if s.identity else 0.0,
        edges(mr, to_ct(mr)) + edges(ct, to_mr(ct)) if s.edges else 0.0,
    ]


def loss_of_generators(weights: np.ndarray, s: Settings) -> float:
    fooled, cycle, same, moved = terms_of_generators(weights, s)
    return fooled + s.cycle * cycle + s.cycle * s.identity * same + s.edges * moved


def loss_of_critic(weights: np.ndarray, real: np.ndarray, shown: np.ndarray, s: Settings) -> float:
    judged = [weights[0] * x.astype(np.float64) + weights[1] for x in (real, shown)]
    return 0.5 * (adversarial(judged[0], True, s.loss) + adversarial(judged[1], False, s.loss))


def gradient(f: Callable[[np.ndarray], float], at: tuple[float, ...]) -> np.ndarray:
    """Return the gradient of f by central differences."""
    steps = 1e-5 * np.eye(len(at))
    return np.array([(f(np.array(at) + e) - f(np.array(at) - e)) / 2e-5 for e in steps])


def translations() -> dict[str, np.ndarray]:
    """Return the translations of the real slices by the initial generators."""
    made = {"CT": GENERATORS["mr2ct"], "MR": GENERATORS["ct2mr"]}
    return {m: (w * REAL["MR" if m == "CT" else "CT"] + b) for m, (w, b) in made.items()}


SETTINGS = {
    "least squares": PLAIN,
    "log": replace(PLAIN, loss="log"),
    "no identity": replace(PLAIN, identity=0.0),
    "edges": replace(PLAIN, edges=2.0),
    "weights": replace(PLAIN, cycle=0.5, identity=2.0),
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_step_moves_the_generators_down_the_objective(new: Callable[[Settings], Any], settings: Settings) -> None:
    trainer = new(settings)
    trainer.take_step()
    start = (*GENERATORS["mr2ct"], *GENERATORS["ct2mr"])
    wanted = np.array(start) - RATE * gradient(lambda w: loss_of_generators(w, settings), start)
    found = [v for name in ("mr2ct", "ct2mr") for v in trainer.generators[name].values]
    # float32 sums of 2048 pixels: relative errors of 1e-6, for steps of about 0.1
    assert found == pytest.approx(list(wanted), abs=2e-6)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_a_step_moves_each_discriminator_by_its_own_images(new: Callable[[Settings], Any], settings: Settings) -> None:
    trainer = new(settings)
    trainer.take_step()
    made = translations()
    for m, start in CRITICS.items():
        loss = partial(loss_of_critic, real=REAL[m], shown=made[m], s=settings)
        wanted = np.array(start) - RATE * gradient(loss, start)
        assert trainer.critics[m].values == pytest.approx(tuple(wanted), abs=2e-6), m


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_the_history_has_every_term_unweighted(new: Callable[[Settings], Any], settings: Settings) -> None:
    trainer = new(settings)
    trainer.take_step()
    made = translations()
    wanted = terms_of_generators(np.array((*GENERATORS["mr2ct"], *GENERATORS["ct2mr"])), settings)
    wanted.append(sum(loss_of_critic(np.array(CRITICS[m]), REAL[m], made[m], settings) for m in CRITICS))
    (recent,) = trainer.recent
    assert recent.tolist() == pytest.approx(wanted, abs=2e-5)
    assert trainer.step == 1


def test_a_step_asks_for_the_slices_of_its_number(new: Callable[[Settings], Any]) -> None:
    trainer = new(replace(PLAIN, seed=5))
    trainer.take_step()
    trainer.take_step()
    for domain in trainer.domains.values():
        assert domain.asked == [(5, 0, 2, 32), (5, 1, 2, 32)]


def test_a_discriminator_sees_what_its_own_pool_hands_over(new: Callable[[Settings], Any]) -> None:
    class Pool:
        def __init__(self, value: float) -> None:
            self.value = value

        def exchange(self, images: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
            self.given, self.drawn = images, rng.random(4)
            return torch.full_like(images, self.value)

    trainer = new(PLAIN)
    trainer.pools = {"MR": Pool(0.4), "CT": Pool(-0.9)}
    trainer.take_step()
    made = translations()
    for m, start in CRITICS.items():
        pool = trainer.pools[m]
        assert np.allclose(pool.given.numpy(), made[m], atol=1e-6)
        assert not pool.given.requires_grad
        shown = np.full_like(REAL[m], pool.value)
        loss = partial(loss_of_critic, real=REAL[m], shown=shown, s=PLAIN)
        wanted = np.array(start) - RATE * gradient(loss, start)
        assert trainer.critics[m].values == pytest.approx(tuple(wanted), abs=2e-6)
    first = {m: pool.drawn for m, pool in trainer.pools.items()}
    assert not np.array_equal(first["MR"], first["CT"])  # the pools draw independently
    trainer.take_step()
    assert not np.array_equal(trainer.pools["MR"].drawn, first["MR"])  # and again at every step


def test_pools_have_the_size_of_the_settings(new: Callable[[Settings], Any]) -> None:
    assert {m: p.size for m, p in new(replace(PLAIN, pool=7)).pools.items()} == {"MR": 7, "CT": 7}


def test_gradients_of_one_step_do_not_reach_the_next(new: Callable[[Settings], Any]) -> None:
    """After two steps the generators equal those of two steps of the objective; the critics have changed in between."""
    trainer = new(PLAIN)
    trainer.take_step()
    critics = {m: c.values for m, c in trainer.critics.items()}
    start = tuple(v for name in ("mr2ct", "ct2mr") for v in trainer.generators[name].values)
    trainer.take_step()
    before = dict(CRITICS)
    try:
        CRITICS.update(critics)
        wanted = np.array(start) - RATE * gradient(lambda w: loss_of_generators(w, PLAIN), start)
    finally:
        CRITICS.update(before)
    assert [v for n in ("mr2ct", "ct2mr") for v in trainer.generators[n].values] == pytest.approx(
        list(wanted), abs=4e-6
    )
    assert all(w.requires_grad for c in trainer.critics.values() for w in c.parameters())


def test_the_rate_that_is_used_falls_over_the_last_epochs(new: Callable[[Settings], Any]) -> None:
    """8 steps in 8 epochs, constant for 4: the 7th step uses (8 - 6) / 4 of the rate."""
    trainer = new(PLAIN)
    trainer.step = 6
    trainer.take_step()
    start = (*GENERATORS["mr2ct"], *GENERATORS["ct2mr"])
    wanted = np.array(start) - 0.5 * RATE * gradient(lambda w: loss_of_generators(w, PLAIN), start)
    assert [v for n in ("mr2ct", "ct2mr") for v in trainer.generators[n].values] == pytest.approx(
        list(wanted), abs=2e-6
    )
    assert [group["lr"] for o in trainer.optimisers for group in o.param_groups] == [0.5 * RATE] * 2


@pytest.mark.parametrize(("ema", "share"), [(0.9, 0.2), (0.1, 0.1)])
def test_the_running_average_starts_fast_and_never_exceeds_its_decay(
    new: Callable[[Settings], Any], ema: float, share: float
) -> None:
    """In step n the average keeps min(ema, 1 - 1 / (n / 4 + 1)) of its old value: 0.2 in the first."""
    trainer = new(replace(PLAIN, ema=ema))
    trainer.take_step()
    for name, old in GENERATORS.items():
        now = trainer.generators[name].values
        wanted = [share * a + (1 - share) * b for a, b in zip(old, now, strict=True)]
        assert trainer.average[name].values == pytest.approx(wanted, abs=1e-6)
        assert trainer.best_generators()[name] is trainer.average[name]


def test_without_an_average_the_generators_themselves_are_the_model(new: Callable[[Settings], Any]) -> None:
    trainer = new(PLAIN)
    assert trainer.best_generators() is trainer.generators


def test_adam_has_the_papers_betas_and_each_optimiser_its_own_networks(new: Callable[[Settings], Any]) -> None:
    trainer = new(replace(PLAIN, optimizer="adam", momentum=0.5, learning_rate=2e-4))
    for optimizer, networks in zip(trainer.optimisers, (trainer.generators, trainer.critics), strict=True):
        assert isinstance(optimizer, torch.optim.Adam)
        (group,) = optimizer.param_groups
        assert (group["lr"], group["betas"], group["weight_decay"]) == (2e-4, (0.5, 0.999), 0)
        owned = [id(w) for n in networks.values() for w in n.parameters()]
        assert [id(w) for w in group["params"]] == owned


def test_sgd_has_the_momentum_of_the_settings(new: Callable[[Settings], Any]) -> None:
    for optimizer in new(replace(PLAIN, momentum=0.9)).optimisers:
        assert isinstance(optimizer, torch.optim.SGD)
        assert (optimizer.defaults["momentum"], optimizer.defaults["lr"]) == (0.9, RATE)


def test_networks_have_the_sizes_of_the_settings(tmp_path: Path) -> None:
    """With real networks, filters and blocks have the requested sizes."""
    trainer = trainer_of_slices(tmp_path, replace(PLAIN, blocks=2, filters=5, critic_filters=7, ema=0.5))
    for networks in (trainer.generators, trainer.average):
        assert set(networks) == {"mr2ct", "ct2mr"}
        for network in networks.values():
            assert network.body[1].weight.shape == (5, 1, 7, 7)
            assert sum(type(layer).__name__ == "ResidualBlock" for layer in network.body) == 2
    assert set(trainer.critics) == {"MR", "CT"}
    assert all(critic.body[0].weight.shape == (7, 1, 4, 4) for critic in trainer.critics.values())
    first, second = (g.body[1].weight for g in trainer.generators.values())
    assert not torch.equal(first, second)
    assert not any(w.requires_grad for n in trainer.average.values() for w in n.parameters())


def read_history(folder: Path) -> list[list[str]]:
    return [line.split(",") for line in (folder / "history.csv").read_text(encoding="utf-8").splitlines()]


def test_the_history_has_the_means_since_its_last_line(new: Callable[[Settings], Any], tmp_path: Path) -> None:
    trainer = new(PLAIN)
    trainer.recent = [torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([3.0, 2.0, 3.0, 4.0, 6.0])]
    trainer.step, trainer.seconds = 4, 12.34
    trainer._report()
    assert trainer.recent == []
    heading, row = read_history(tmp_path)
    assert heading == ["step", "seconds", "learning rate", "generators", "cycle", "identity", "edges", "critics"]
    assert row == ["4", "12.3", "0.01", "2.0000", "2.0000", "3.0000", "4.0000", "5.5000"]


def test_lines_after_the_state_that_a_run_goes_on_from_are_written_again(
    new: Callable[[Settings], Any], tmp_path: Path
) -> None:
    """A line that was truncated when the program ended is removed."""
    trainer = new(PLAIN)

    def report(step: int, value: float) -> None:
        trainer.step, trainer.recent = step, [torch.full((5,), value)]
        trainer._report()

    for step in (20, 40, 60):
        report(step, 1.0)
    assert [row[0] for row in read_history(tmp_path)] == ["step", "20", "40", "60"]
    report(40, 7.0)
    assert [(row[0], row[4]) for row in read_history(tmp_path)[1:]] == [("20", "1.0000"), ("40", "7.0000")]
    with (tmp_path / "history.csv").open("a", encoding="utf-8") as stream:
        stream.write("60,1")
    report(60, 8.0)
    rows = read_history(tmp_path)
    assert [row[0] for row in rows] == ["step", "20", "40", "60"]
    assert rows[-1][4] == "8.0000"
