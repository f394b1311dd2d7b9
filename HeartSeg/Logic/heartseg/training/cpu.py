"""Capabilities of the processor; requires only torch."""

from __future__ import annotations

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device; on CPUs without AMX it takes twice as long."""
    return device.type != "cpu" or has_bfloat16_units()


def has_bfloat16_units() -> bool:
    """Whether this CPU has matrix units for bfloat16 (AMX)."""
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())
