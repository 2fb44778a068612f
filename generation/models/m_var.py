"""M-VAR (arXiv 2411.10433): attention within a map, and a recurrent layer that reads all maps in turn.

What the recurrent layer knows of the coarser maps is a state of fixed size, which a sampling carries on.
"""

from torch import Tensor, nn

from generation.mask import block_diagonal
from generation.models.var import VAR
from generation.schedule import Schedule
from generation.state import Mamba2


class MambaVAR(VAR):
    """464,157,440 parameters at depth 16."""

    remembers = False

    def parts(self) -> dict[str, nn.Module]:
        parts = super().parts()
        return {"attn": parts["attn"], "mamba": Mamba2(self.config.width), "ffn": parts["ffn"]}

    def seen(self, schedule: Schedule) -> Tensor:
        return block_diagonal(schedule)
