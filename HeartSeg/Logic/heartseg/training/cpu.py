"""What the processor can do; needs torch alone."""

from __future__ import annotations

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device; on CPUs without units for it, it takes twice as long."""
    return device.type != "cpu" or has_bfloat16_units()


def has_bfloat16_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in units of their own (AMX); on others bfloat16 is no faster."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
