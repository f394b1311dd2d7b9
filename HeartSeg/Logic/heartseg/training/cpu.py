"""Capabilities of the processor; requires only torch."""

from __future__ import annotations

import torch


def fast_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 on a device; on CPUs without instructions for it, it is twice as slow."""
    return device.type != "cpu" or has_bfloat16_instructions()


def has_bfloat16_instructions() -> bool:
    """Whether this CPU multiplies bfloat16 (AMX or AVX-512 BF16)."""
    return has_matrix_units() or _supports("_is_avx512_bf16_supported")


def has_matrix_units() -> bool:
    """Whether this CPU has matrix units (AMX)."""
    return _supports("_is_amx_tile_supported")


def _supports(question: str) -> bool:
    return bool(getattr(torch.cpu, question, lambda: False)())
