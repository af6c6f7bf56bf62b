"""Going on with a training that was interrupted: the state after each epoch, on disk until the cell is stored."""

from __future__ import annotations

import math
import os
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from mmbench.errors import MmbenchError
from mmbench.modules import Strategy
from mmbench.training.network import Trainable
from mmbench.training.optimiser import Optimiser


@dataclass
class Checkpoint:
    """A cell's file for the state of its training.

    Attributes:
        path: it exists whole or not at all.
        identity: of all that the state depends on besides the cell; another one's state is not taken up.
        seconds: spent on the epochs that were taken up.
        epochs: how many they were.
    """

    path: Path
    identity: str
    seconds: float = 0.0
    epochs: int = 0
    started: float = field(default_factory=time.perf_counter)

    def load(self, device: str) -> dict[str, Any] | None:
        """The state that was saved last, its tensors on ``device``; None where there is none that fits.

        Raises:
            MmbenchError: a damaged file.
        """
        try:
            kept = torch.load(self.path, map_location=device, weights_only=True)
        except FileNotFoundError:
            return None
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MmbenchError(f"{self.path} is damaged ({reason}): delete it, and training starts anew") from None
        if not isinstance(kept, dict) or kept.get("identity") != self.identity:
            return None
        self.seconds, self.epochs = kept["seconds"], kept["state"]["epoch"]
        state: dict[str, Any] = kept["state"]
        return state

    def save(self, state: dict[str, Any]) -> None:
        """Keep the state of an epoch, over the one before.

        Raises:
            MmbenchError: it cannot be written.
        """
        seconds = self.seconds + time.perf_counter() - self.started
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=f"{self.path.name}.", dir=self.path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    torch.save({"identity": self.identity, "seconds": seconds, "state": state}, file)
                    file.flush()
                    os.fsync(file.fileno())
                Path(name).replace(self.path)
            finally:
                Path(name).unlink(missing_ok=True)
        except (OSError, RuntimeError) as error:  # a full disk is either, by the place where torch notices
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise MmbenchError(f"cannot write the checkpoint {self.path} ({reason})") from None


@dataclass
class Progress:
    """What an epoch leaves behind: with it training goes on as if it had never stopped.

    ``order`` draws the order of the batches; torch's global generators draw dropout.
    """

    network: Trainable
    strategy: Strategy
    optimiser: Optimiser
    order: torch.Generator
    history: dict[str, Any]
    epoch: int = 0
    best: float = math.inf
    best_epoch: int = 0
    best_state: dict[str, Any] | None = None

    def state(self, device: str) -> dict[str, Any]:
        """Tensors and plain values."""
        kind = torch.device(device).type
        return {
            "network": self.network.state_dict(),
            "strategy": self.strategy.state_dict(),
            "optimiser": self.optimiser.state(),
            "order": self.order.get_state(),
            "dropout": torch.get_rng_state(),
            "dropout_gpu": torch.cuda.get_rng_state(device) if kind == "cuda" else None,
            "history": self.history,
            "epoch": self.epoch,
            "best": self.best,
            "best_epoch": self.best_epoch,
            "best_state": self.best_state,
        }

    def restore(self, state: dict[str, Any], device: str) -> None:
        """Take up a state of :meth:`state`."""
        self.network.load_state_dict(state["network"])
        self.strategy.load_state_dict(state["strategy"])
        self.optimiser.restore(state["optimiser"])
        self.order.set_state(state["order"].cpu())
        torch.set_rng_state(state["dropout"].cpu())
        if state["dropout_gpu"] is not None:
            torch.cuda.set_rng_state(state["dropout_gpu"].cpu(), device)
        self.history, self.epoch = state["history"], state["epoch"]
        self.best, self.best_epoch, self.best_state = state["best"], state["best_epoch"], state["best_state"]
