"""What the processor can do; needs torch alone."""

from __future__ import annotations

import torch


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in units of their own (AMX); on others bfloat16 is no faster."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
