"""What a training run consists of."""
import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path

import paddle

from model.classes import Classes
from model.losses import Criterion
from model.yolact import Yolact
from training.ema import EMA
from training.precision import Precision
from training.recipe import Recipe, has_mosaics

now = time.monotonic  # seconds since whenever


@dataclass
class Run:
    """A training run: what is trained, how, and where it is saved.

    Attributes:
        network: `Yolact`.
        classes: `Classes` that it tells apart.
        recipe: `Recipe`.
        criterion: `Criterion`, the losses.
        optimizer: Paddle's, of the network's parameters.
        precision: `Precision` of a step.
        ema: `EMA` of the network; None without.
        save_dir: folder of log and checkpoints.
        start: number of steps done before this run.
        best: names of the best checkpoints of this run in `save_dir`, where those of other runs may be, too.
        rank: number of this process, from 0.
        world_size: number of processes.
        seconds: that it has trained, also before this run, as of the last step.
        name: made up when the run started, and kept by its checkpoints; empty where it is not known.
        last_checkpoint: to go on from; None before the first one.
    """
    network: Yolact
    classes: Classes
    recipe: Recipe
    criterion: Criterion
    optimizer: paddle.optimizer.Optimizer
    precision: Precision
    ema: EMA | None
    save_dir: Path
    start: int = 0
    best: set[str] = dataclasses.field(default_factory=set)
    rank: int = 0
    world_size: int = 1
    seconds: float = 0.0
    name: str = ''
    last_checkpoint: Path | None = None
    _began: float = dataclasses.field(default_factory=lambda: now(), repr=False)

    def __post_init__(self) -> None:
        self._began -= self.seconds

    def elapsed(self) -> float:
        """Seconds that it has trained, also before this run, as of now."""
        return now() - self._began

    def has_mosaics(self, step: int) -> bool:
        """Whether the batch of a step, from 0, may have mosaics."""
        return has_mosaics(self.recipe, step, self.seconds)

    @property
    def is_main_process(self) -> bool:
        """Whether this process logs, saves and evaluates."""
        return self.rank == 0
