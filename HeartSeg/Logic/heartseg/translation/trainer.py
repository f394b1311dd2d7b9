"""Training loop of both generators and discriminators; it can stop and resume at any step with identical results."""

from __future__ import annotations

import contextlib
import copy
import csv
import itertools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import nn

from ..devices import choose_device, describe_device, is_out_of_memory
from ..errors import DeviceError, InputError, SettingsError, writing
from ..progress import Reporter
from ..training.state import load_state, save_state
from .losses import adversarial_loss, edge_loss
from .model import TranslationModel, write_model
from .networks import PatchDiscriminator, ResNetGenerator, initialise
from .pool import ImagePool
from .presets import Settings
from .sheets import draw_sheet, write_sheet
from .slices import MODALITIES, Domain, check_scans, fit, padding_share, prepare

log = logging.getLogger(__name__)

SHEET_SLICES = 4
MOST_PADDING = 0.35
"""Fraction of padding in a patch above which the user gets a warning."""
REPORT_EVERY = 20
TERMS = ("generators", "cycle", "identity", "edges", "critics")
"""Columns of the history: adversarial loss of both generators, the unweighted other terms, loss of both critics."""


class Trainer:
    """A training run in a folder with ``state-*``, ``model/``, ``sheets/``, ``history.csv`` and ``slices/``.

    On one machine, the same settings and scans give the same weights, even if the run was stopped and resumed.

    Args:
        mr, ct: slices of both modalities.
        out: folder of the run.
        settings: settings of the training.
        device: device of the networks.
        save_every: seconds between states.
        sheet_every: steps between sample sheets.
    """

    def __init__(
        self,
        mr: Domain,
        ct: Domain,
        out: Path,
        settings: Settings,
        device: str = "cpu",
        save_every: float = 120.0,
        sheet_every: int = 500,
    ) -> None:
        self.domains = {"MR": mr, "CT": ct}
        self.out, self.settings, self.device = out, settings, choose_device(device)
        self.save_every, self.sheet_every = save_every, sheet_every
        self.steps = total_steps(settings, max(len(mr.places), len(ct.places)))
        rng = torch.Generator().manual_seed(settings.seed)
        self.generators = {
            d: initialise(ResNetGenerator(settings.filters, settings.blocks), rng).to(self.device)
            for d in ("mr2ct", "ct2mr")
        }
        self.critics = {
            m: initialise(PatchDiscriminator(settings.critic_filters), rng).to(self.device) for m in MODALITIES
        }
        self.average = {d: _copy(g) for d, g in self.generators.items()} if settings.ema else {}
        self.optimisers = [self._optimiser(self.generators), self._optimiser(self.critics)]
        self.pools = {m: ImagePool(settings.pool) for m in MODALITIES}
        self.step, self.seconds = 0, 0.0
        self.recent: list[torch.Tensor] = []

    def _optimiser(self, networks: dict[str, nn.Module]) -> torch.optim.Optimizer:
        weights = list(itertools.chain.from_iterable(n.parameters() for n in networks.values()))
        s = self.settings
        if s.optimizer == "adam":
            return torch.optim.Adam(weights, s.learning_rate, betas=(s.momentum, 0.999))
        return torch.optim.SGD(weights, s.learning_rate, momentum=s.momentum)

    # --- running ------------------------------------------------------------------------------------------------------

    def run(self, reporter: Reporter | None = None, until: float = math.inf) -> bool:
        """Train to the end, or until ``time.monotonic()`` exceeds ``until``; returns whether the training is complete.

        If it is cancelled between two steps (:class:`Cancelled`), it saves the state first. A ``KeyboardInterrupt``
        within a step loses all steps since the last saved state, at most ``save_every`` seconds and one step.

        Raises:
            SettingsError: a loss is no longer finite.
            DeviceError: the device has too little memory.
        """
        reporter = reporter or Reporter()
        with reporter.stage("train", self.steps), self._memory_explained():
            self._run_steps(reporter, until)
        self.save()
        done = self.step >= self.steps
        log.info("%s at step %d of %d, %.0f s", "done" if done else "stopped", self.step, self.steps, self.seconds)
        return done

    def _run_steps(self, reporter: Reporter, until: float) -> None:
        clock = saved = time.monotonic()
        between = True
        try:
            while self.step < self.steps and clock <= until:
                between = False
                self.take_step()
                between = True
                now = time.monotonic()
                self.seconds += now - clock
                clock = now
                if self.step % REPORT_EVERY == 0:
                    self._report()
                if self.step % self.sheet_every == 0 or self.step == self.steps:
                    self.draw()
                if now - saved > self.save_every:
                    self.save()
                    saved = time.monotonic()
                reporter.advance(self.step)
        except BaseException as stop:
            if between and not isinstance(stop, SettingsError):
                self.save()
            raise

    @contextlib.contextmanager
    def _memory_explained(self) -> Iterator[None]:
        s = self.settings
        try:
            yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            raise DeviceError(
                f"{describe_device(self.device)} has too little memory for batch {s.batch}, patch {s.patch} and "
                f"{s.filters} filters: lower --batch, then --patch, then --filters"
            ) from None

    def learning_rate(self) -> float:
        """Return the learning rate of the next step: constant at first, then linearly decreasing to 0."""
        s = self.settings
        constant = self.steps * s.constant_epochs / s.epochs
        return s.learning_rate * min(1.0, (self.steps - self.step) / (self.steps - constant))

    def take_step(self) -> None:
        """Take one step of both generators, then of both critics."""
        s = self.settings
        for optimizer in self.optimisers:
            for group in optimizer.param_groups:
                group["lr"] = self.learning_rate()
        real = {m: self.domains[m].batch(s.seed, self.step, s.batch, s.patch).to(self.device) for m in MODALITIES}
        made, terms = self._teach_generators(real)
        critics = self._teach_critics(real, made)
        self.recent.append(torch.stack([*terms, critics]))
        self.step += 1
        if self.average:
            decay = min(s.ema, 1 - 1 / (self.step / 4 + 1))
            with torch.no_grad():
                for direction, network in self.average.items():
                    torch._foreach_lerp_(
                        list(network.parameters()), list(self.generators[direction].parameters()), 1 - decay
                    )

    def _teach_generators(self, real: dict[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        """Take a step of the generators; returns their images and the terms of the loss."""
        s = self.settings
        for critic in self.critics.values():
            critic.requires_grad_(False)
        made, same = {}, {}
        for source, target, direction in (("MR", "CT", "mr2ct"), ("CT", "MR", "ct2mr")):
            if s.identity:  # instance norm treats each image separately, so one call can process both batches
                both = self.generators[direction](torch.cat([real[source], real[target]]))
                made[target], same[target] = both.split(s.batch)
            else:
                made[target] = self.generators[direction](real[source])
        back = {"MR": self.generators["ct2mr"](made["CT"]), "CT": self.generators["mr2ct"](made["MR"])}
        zero = torch.zeros((), device=self.device)
        fooled = sum((adversarial_loss(self.critics[m](made[m]), True, s.loss) for m in MODALITIES), zero)
        cycle = sum((nnf.l1_loss(back[m], real[m]) for m in MODALITIES), zero)
        identity = sum((nnf.l1_loss(same[m], real[m]) for m in same), zero)
        pairs = ((real["MR"], made["CT"]), (real["CT"], made["MR"])) if s.edges else ()
        edges = sum((edge_loss(a, b) for a, b in pairs), zero)
        loss = fooled + s.cycle * (cycle + s.identity * identity) + s.edges * edges
        self._descend(self.optimisers[0], loss)
        for critic in self.critics.values():
            critic.requires_grad_(True)
        return {m: x.detach() for m, x in made.items()}, [t.detach() for t in (fooled, cycle, identity, edges)]

    def _teach_critics(self, real: dict[str, torch.Tensor], made: dict[str, torch.Tensor]) -> torch.Tensor:
        """Take a step of the critics on real and pooled images with half the loss, as in the paper; returns it."""
        s = self.settings
        loss = torch.zeros((), device=self.device)
        for number, m in enumerate(MODALITIES):
            rng = np.random.default_rng([s.seed, self.step, 2 + number])
            shown = self.pools[m].exchange(made[m], rng)
            judged_real, judged_made = self.critics[m](torch.cat([real[m], shown])).split(s.batch)
            loss = loss + 0.5 * (
                adversarial_loss(judged_real, True, s.loss) + adversarial_loss(judged_made, False, s.loss)
            )
        self._descend(self.optimisers[1], loss)
        return loss.detach()

    @staticmethod
    def _descend(optimizer: torch.optim.Optimizer, loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    # --- what is written ----------------------------------------------------------------------------------------------

    def _report(self) -> None:
        """Append a row to the history; raises if a loss is not finite."""
        means = torch.stack(self.recent).mean(0).tolist()
        self.recent = []
        if not all(math.isfinite(v) for v in means):
            raise SettingsError(
                f"training diverged before step {self.step} (a loss is not finite): start again in a new folder with a "
                f"learning rate below {self.settings.learning_rate:g} or the preset reference"
            )
        path = self.out / "history.csv"
        self.out.mkdir(parents=True, exist_ok=True)
        lines = _rows_before(path, self.step)
        with path.open("a" if lines is None else "w", newline="", encoding="utf-8") as stream:
            table = csv.writer(stream)
            table.writerows(lines or ())
            table.writerow(
                [self.step, round(self.seconds, 1), f"{self.learning_rate():.3g}", *(f"{v:.4f}" for v in means)]
            )
        text = "  ".join(f"{k} {v:.3f}" for k, v in zip(TERMS, means, strict=True))
        log.info("step %d of %d  %.2f s/step  %s", self.step, self.steps, self.seconds / self.step, text)

    def best_generators(self) -> dict[str, nn.Module]:
        """Return the generators for the model: their running averages if available, else the generators."""
        return self.average or self.generators

    def draw(self) -> Path:
        """Draw a sample sheet of fixed slices; returns its path."""
        images = {}
        for m, domain in self.domains.items():
            places = np.linspace(0, len(domain.places) - 1, SHEET_SLICES + 2).astype(int)[1:-1]
            rng = np.random.default_rng(0)
            stack = np.stack([fit(domain.slice(int(p)), self.settings.patch, rng) for p in places])
            images[m] = torch.from_numpy(stack[:, None]).to(self.device)
        return write_sheet(
            self.out / "sheets", self.step, draw_sheet(self.best_generators(), images["MR"], images["CT"])
        )

    def save(self) -> TranslationModel:
        """Write a state to resume from, and the model."""
        state: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "settings": self.settings.to_dict(),
            "scans": self._scans(),
            "generators": {k: v.state_dict() for k, v in self.generators.items()},
            "critics": {k: v.state_dict() for k, v in self.critics.items()},
            "average": {k: v.state_dict() for k, v in self.average.items()},
            "optimisers": [o.state_dict() for o in self.optimisers],
            "pools": {k: v.state() for k, v in self.pools.items()},
            "recent": list(self.recent),
        }
        with writing(self.out, ", then repeat the command"):
            save_state(self.out, state, self.step)
        facts = {
            "steps": self.steps,
            "seconds": round(self.seconds),
            "device": describe_device(self.device),
            "scans": {m: len(d.files) for m, d in self.domains.items()},
            "slices": {m: len(d.places) for m, d in self.domains.items()},
        }
        scaling = {m: d.scaling for m, d in self.domains.items()}
        return write_model(self.out / "model", self.best_generators(), self.settings, scaling, self.step, facts)

    def _scans(self) -> list[str]:
        return [file.stem for d in self.domains.values() for file in d.files]

    def resume(self) -> bool:
        """Resume from the state in the folder; return whether there was one.

        Raises:
            SettingsError: the run in the folder has different settings or scans, or is damaged.
        """
        try:
            state = load_state(self.out)
        except ValueError as error:
            raise SettingsError(str(error)) from None
        if state is None:
            return False
        before, now = state["settings"], self.settings.to_dict()
        for name in now:
            if before.get(name) != now[name]:
                raise SettingsError(
                    f"the run in '{self.out}' has {name} {before.get(name)!r}, not {now[name]!r}: continue with the "
                    "same settings, or choose another folder"
                )
        if state["scans"] != self._scans():
            raise SettingsError(
                f"the run in '{self.out}' was started with different scans, or the scans have changed: "
                "give the same scans, or choose another folder"
            )
        for group, networks in (("generators", self.generators), ("critics", self.critics), ("average", self.average)):
            for name, network in networks.items():
                network.load_state_dict(state[group][name])
        for optimizer, values in zip(self.optimisers, state["optimisers"], strict=True):
            optimizer.load_state_dict(values)
        for name, pool in self.pools.items():
            pool.restore(state["pools"][name], self.device)
        self.recent = [t.to(self.device) for t in state["recent"]]
        self.step, self.seconds = state["step"], state["seconds"]
        return True


def train(
    mr: Sequence[Path],
    ct: Sequence[Path],
    out: Path,
    settings: Settings,
    *,
    device: str = "auto",
    reporter: Reporter | None = None,
    until: float = math.inf,
    sheet_every: int = 500,
) -> bool:
    """Train on scans, or continue an interrupted run; returns whether the training is complete.

    Args:
        mr, ct: image files or DICOM folders, unpaired, without labels, at least two of each.
        out: folder of the run; the model is ``out/model``, pictures in ``out/sheets``.
        settings: see :mod:`~heartseg.translation.presets`.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        reporter: receives progress and cancels.
        until: ``time.monotonic()`` at which to save and stop.
        sheet_every: steps between sample sheets.

    Raises:
        InputError, SettingsError, OutputError, DeviceError: with a message that gives the solution.
    """
    reporter = reporter or Reporter()
    both = {p.resolve() for p in mr} & {p.resolve() for p in ct}
    if both:
        raise InputError(f"'{sorted(both)[0]}' is among the MR and among the CT scans: give each once")
    choose_device(device)  # check the device and the paths before reading any scan
    for scans, modality in ((mr, "MR"), (ct, "CT")):
        check_scans(scans, modality)
    domains = [prepare(s, m, settings, out / "slices", reporter) for s, m in ((mr, "MR"), (ct, "CT"))]
    for domain in domains:
        padding = padding_share(domain, settings.patch)
        if padding > MOST_PADDING:
            reporter.announce(
                f"{padding:.0%} of a patch of {settings.patch} pixels of {settings.spacing:g} mm is padding in "
                f"{domain.modality}: lower --patch or --spacing"
            )
    trainer = Trainer(domains[0], domains[1], out, settings, device, sheet_every=sheet_every)
    if trainer.resume():
        log.info("continuing from step %d", trainer.step)
    return trainer.run(reporter, until)


def total_steps(settings: Settings, slices: int) -> int:
    """Return the number of steps of a training whose larger domain has ``slices`` slices."""
    return settings.steps or settings.epochs * max(1, math.ceil(slices / settings.batch))


def _copy(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).eval().requires_grad_(False)


def _rows_before(path: Path, step: int) -> list[list[str]] | None:
    """Return the rows to keep before a row of this step is written; None if it can simply be appended."""
    heading = ["step", "seconds", "learning rate", *TERMS]
    if not path.is_file():
        return [heading]
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    kept = [r for r in rows[1:] if len(r) == len(heading) and int(r[0]) < step]  # a row may be incomplete
    return None if len(kept) == len(rows) - 1 else [heading, *kept]
