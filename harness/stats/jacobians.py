"""How a decoder stretches its latent space near a code, by forward-mode differentiation of its Jacobian J."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

Decode = Callable[[Tensor], Tensor]
"""Maps codes [N, ...] to outputs [N, ...]; none depends on the other codes."""

DIRECTIONS = 6
"""Random directions from which the Frobenius norm is estimated."""
DIMENSIONS = 128
"""Most dimensions of a code for which all of J is computed."""
ELEMENTS = 1 << 25
"""Numbers of Jacobians kept at a time."""


def orthonormal_rows(size: int, count: int, seed: int = 0) -> Tensor:
    """Random orthonormal rows [count, size], float32, or the identity [size, size] if size <= count."""
    if size <= count:
        return torch.eye(size)
    columns = torch.randn(size, count, generator=torch.Generator().manual_seed(seed))
    orthonormal: Tensor = torch.linalg.qr(columns).Q
    return orthonormal.T


def derivative(decode: Decode, codes: Tensor, direction: Tensor) -> Tensor:
    """J v at each code of codes [N, ...] for one direction v with as many numbers as a code; [N, P], P outputs.

    It takes as long as two to three calls, and no graph is stored. Raises ValueError for a decoder with an operation
    that has no forward derivative in torch, or one that does not keep the first axis.
    """
    # Not torch.func.jvp: a decode that moves its network to the device of its input would store jvp's wrapped tensors.
    along = direction.to(codes).view(codes[0].shape).expand_as(codes).contiguous()
    with warnings.catch_warnings():  # torch's forward mode imports deprecated parts of torch
        warnings.filterwarnings("ignore", message="`torch.jit.script` is", category=DeprecationWarning)
        with forward_ad.dual_level():
            try:
                output = decode(forward_ad.make_dual(codes, along))  # type: ignore[no-untyped-call]
            except NotImplementedError as failure:
                raise ValueError(f"decode has no forward derivative: {' '.join(str(failure).split())}") from None
            primal, tangent = forward_ad.unpack_dual(output)  # type: ignore[no-untyped-call]
    if len(primal) != len(codes):
        raise ValueError(f"decode maps {len(codes)} codes to {len(primal)} outputs; it must keep the first axis")
    found: Tensor = torch.zeros_like(primal) if tangent is None else tangent
    return found.flatten(1)


def squared_stretch(decode: Decode, codes: Tensor, directions: int = DIRECTIONS, seed: int = 0) -> Tensor:
    """D |J v_k|² at each code of codes [N, ...], float32 [N, K]; D is the number of dimensions of a code.

    v_1 to v_K are random orthonormal directions, drawn with `seed`, the same at every code; K is `directions`, or D if
    that is less. Over seeds, the mean of each column, and of all, is ‖J‖² in the Frobenius norm (Hutchinson 1990, with
    orthonormal probes, which vary less); with K = D the mean over columns is ‖J‖² itself. Costs K derivatives.
    """
    size = codes[0].numel()
    rows = orthonormal_rows(size, directions, seed)
    lengths = [derivative(decode, codes, row).double().square().sum(1) for row in rows]
    return (size * torch.stack(lengths, 1)).float()


def singular_values(decode: Decode, codes: Tensor) -> Tensor:
    """All D singular values of J at each code of codes [N, ...], descending, float32 [N, D]; costs D derivatives.

    Beyond the number of outputs they are 0, to rounding: that of float32 is about 1e-6 of the largest. Raises
    ValueError for more than 128 dimensions.
    """
    size = codes[0].numel()
    if size > DIMENSIONS:
        raise ValueError(
            f"codes have {size} dimensions; all singular values are found for at most {DIMENSIONS}: use the norm of "
            "the Jacobian (form=norm, volume=norm)"
        )
    with torch.no_grad():
        outputs = decode(codes[:1])[0].numel()
    parts = torch.split(codes, max(1, ELEMENTS // (outputs * size)))
    return torch.cat([_singular_values(decode, part, size) for part in parts])


def _singular_values(decode: Decode, codes: Tensor, size: int) -> Tensor:
    columns = torch.stack([derivative(decode, codes, axis) for axis in torch.eye(size)], 1).double()
    squared: Tensor = torch.linalg.eigvalsh(columns @ columns.transpose(1, 2))
    return squared.clamp(min=0).sqrt().flip(1).float()
