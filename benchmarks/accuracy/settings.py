"""How large the benchmark is: `tiny` tries the command, `small` takes minutes on two cores, `full` an accelerator."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Towns:
    """How the cities are made.

    size_m, gsd_m: side of a city and of an overhead pixel. depth: of the grid, which divides by 4 x 4. width: of the
    photos in pixels. trained, unseen: how many cities are trained on and how many are not. photos: made of each city
    that is trained on; a share of `test` of them, whole blocks of block_m a side, is held out. queries: photos of each
    unseen city.
    """

    size_m: float
    gsd_m: float
    depth: int
    width: int
    trained: int
    unseen: int
    photos: int
    test: float
    block_m: float
    queries: int


@dataclass(frozen=True)
class Setting:
    """towns: the data. image: what all models share (`zoomloc.config.ImageConfig`). decoder, pointer: what else they
    need (`ModelConfig`, `PointerConfig`). training: what all trainings share (`zoomloc.config.TrainConfig`). moved: how
    far the training grid moves. sigma_m: by how much labels are blurred. reach: of the tiles of retrieval. timed:
    photos by which the speed is measured.
    """

    name: str
    towns: Towns
    image: dict[str, int]
    decoder: dict[str, int]
    pointer: dict[str, int]
    training: dict[str, Any]
    moved: dict[str, Any]
    sigma_m: float
    reach: float
    timed: int

    def record(self, seed: int) -> dict[str, Any]:
        """What decides every figure but those of time."""
        return asdict(self) | {"seed": seed}


# Leaves of 20 m, 256 of them; everything too small to learn anything.
TINY = Setting(
    name="tiny",
    towns=Towns(
        size_m=320, gsd_m=1.0, depth=2, width=64, trained=2, unseen=1,
        photos=40, test=0.2, block_m=80, queries=8
    ),
    image={
        "width": 32, "encoder_layers": 1, "encoder_heads": 2, "patch_px": 4,
        "table_px": 48, "photo_px": 16, "view_px": 48
    },
    decoder={"decoder_layers": 1, "decoder_heads": 2},
    pointer={"decoder_layers": 1, "decoder_heads": 2, "queries": 4, "key_width": 16},
    training={"steps": 3, "batch_size": 8, "learning_rate": 1e-3, "warmup_steps": 1},
    moved={"grid_jitter_m": 20.0, "grid_scale": 1.1, "grid_turned": True},
    sigma_m=10.0,
    reach=3.0,
    timed=8,
)  # fmt: skip

# Leaves of 40 m, 256 of them.
SMALL = Setting(
    name="small",
    towns=Towns(
        size_m=640, gsd_m=0.5, depth=2, width=256, trained=4, unseen=2,
        photos=2000, test=0.06, block_m=110, queries=150
    ),
    image={
        "width": 128, "encoder_layers": 4, "encoder_heads": 4, "patch_px": 12,
        "table_px": 72, "photo_px": 72, "view_px": 72
    },
    decoder={"decoder_layers": 2, "decoder_heads": 4},
    pointer={"decoder_layers": 2, "decoder_heads": 4},
    training={
        "steps": 800, "batch_size": 32, "optimizer": "muon", "learning_rate": 2e-3, "warmup_steps": 40
    },
    moved={"grid_jitter_m": 80.0, "grid_scale": 1.25},
    sigma_m=20.0,
    reach=3.0,
    timed=64,
)  # fmt: skip

# Leaves of 20 m, 65,536 of them.
FULL = Setting(
    name="full",
    towns=Towns(
        size_m=5120, gsd_m=0.4, depth=4, width=384, trained=4, unseen=2,
        photos=6800, test=0.085, block_m=160, queries=1050
    ),
    image={
        "width": 384, "encoder_layers": 12, "encoder_heads": 6, "patch_px": 14,
        "table_px": 518, "photo_px": 224, "view_px": 336
    },
    decoder={"decoder_layers": 6, "decoder_heads": 6},
    pointer={"decoder_layers": 2, "decoder_heads": 6},
    training={
        "steps": 20_000, "batch_size": 64, "optimizer": "muon", "learning_rate": 1e-3, "warmup_steps": 1000
    },
    moved={"grid_jitter_m": 320.0, "grid_scale": 1.25, "grid_turned": True},
    sigma_m=10.0,
    reach=4.0,
    timed=64,
)  # fmt: skip

SETTINGS = {setting.name: setting for setting in (TINY, SMALL, FULL)}
