"""The UNet of EDM2 (arXiv:2312.02696): all of its layers preserve the magnitude of features in expectation.

Modules and arguments have the names of the public files, of which the names of tensors and stored options are made.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .edm_unet import require_even
from .openai_unet import attend


def normalized(x: Tensor, *axes: int) -> Tensor:
    """x divided by the root mean square over the axes (eq. 47, 66)."""
    length: Tensor = torch.linalg.vector_norm(x, dim=axes, keepdim=True)
    return x / (1e-4 + length * math.sqrt(length.numel() / x.numel()))


def silu(x: Tensor) -> Tensor:
    """SiLU, with outputs of unit magnitude for normal inputs (eq. 81)."""
    return F.silu(x) / 0.596


def mixed(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The sum of features, `share` of b, with the magnitude restored (eq. 88)."""
    return torch.lerp(a, b, share) / math.hypot(1 - share, share)


def joined(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The channels of both, weighted so that b contributes `share` (eq. 103)."""
    scale = math.sqrt((a.shape[1] + b.shape[1]) / ((1 - share) ** 2 + share**2))
    weights = (1 - share) / math.sqrt(a.shape[1]), share / math.sqrt(b.shape[1])
    return torch.cat([scale * weights[0] * a, scale * weights[1] * b], dim=1)


class Weighted(nn.Module):
    """A linear layer, or a convolution of size `kernel`, whose weights are normalised for each output (eq. 47, 66)."""

    def __init__(self, channels: int, out: int, kernel: int = 0):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out, channels, *2 * (kernel,) if kernel else ()))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        weight = normalized(self.weight, *range(1, self.weight.ndim)) * (gain / math.sqrt(self.weight[0].numel()))
        return x @ weight.T if weight.ndim == 2 else F.conv2d(x, weight, padding=weight.shape[-1] // 2)


class Fourier(nn.Module):
    """Cosines at frequencies and phases that were drawn before the training (eq. 75)."""

    freqs: Tensor
    phases: Tensor

    def __init__(self, width: int):
        super().__init__()
        self.register_buffer("freqs", torch.zeros(width))
        self.register_buffer("phases", torch.zeros(width))

    def forward(self, noise: Tensor) -> Tensor:
        return math.sqrt(2) * (noise[:, None] * self.freqs + self.phases).cos()


class Block(nn.Module):
    """A residual block of the encoder or decoder (figure 21), followed by cosine attention where there are heads."""

    def __init__(
        self,
        channels: int,
        out: int,
        embedding: int,
        encodes: bool,
        resize: str = "",
        heads: int = 0,
        taps: Sequence[float] = (1, 1),
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float = 256,
    ):
        super().__init__()
        self.encodes, self.resize, self.heads, self.taps = encodes, resize, heads, tuple(taps)
        self.res_balance, self.attn_balance, self.clip_act = res_balance, attn_balance, clip_act
        self.emb_gain = nn.Parameter(torch.zeros([]))
        self.conv_res0 = Weighted(out if encodes else channels, out, 3)
        self.emb_linear = Weighted(embedding, out)
        self.conv_res1 = Weighted(out, out, 3)
        self.conv_skip = Weighted(channels, out, 1) if channels != out else None
        if heads:
            if out % heads:
                raise ValueError(f"attention over {out} channels cannot be divided into {heads} heads")
            self.attn_qkv, self.attn_proj = Weighted(out, 3 * out, 1), Weighted(out, out, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = resized(x, self.resize, self.taps)
        if self.encodes:
            x = normalized(x if self.conv_skip is None else self.conv_skip(x), 1)
        y = self.conv_res0(silu(x)) * (self.emb_linear(embedding, self.emb_gain) + 1)[:, :, None, None]
        y = self.conv_res1(silu(y))
        if not self.encodes and self.conv_skip is not None:
            x = self.conv_skip(x)
        x = mixed(x, y, self.res_balance)
        if self.heads:
            qkv = self.attn_qkv(x).flatten(2).unflatten(1, (self.heads, -1, 3))
            q, k, v = normalized(qkv, 2).transpose(2, 4).unbind(3)
            attended = attend(q, k, v).transpose(2, 3).reshape(x.shape)
            x = mixed(x, self.attn_proj(attended), self.attn_balance)
        return x.clamp(-self.clip_act, self.clip_act)


def resized(x: Tensor, resize: str, taps: Sequence[float]) -> Tensor:
    """Half ("down") or double ("up") the size, with a FIR filter."""
    if not resize:
        return x
    one = torch.tensor(taps, dtype=torch.float32, device=x.device)
    one = one / one.sum()
    both = torch.outer(one, one).expand(x.shape[1], 1, -1, -1)
    reach = (len(taps) - 1) // 2
    if resize == "down":
        return F.conv2d(x, both, stride=2, padding=reach, groups=x.shape[1])
    return F.conv_transpose2d(x, 4 * both, stride=2, padding=reach, groups=x.shape[1])


class UNet(nn.Module):
    """The network without the preconditioning. Raises ValueError when attention cannot be divided into heads."""

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_noise: int | None = None,
        channel_mult_emb: int | None = None,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (16, 8),
        label_balance: float = 0.5,
        concat_balance: float = 0.5,
        channels_per_head: int = 64,
        resample_filter: Sequence[float] = (1, 1),
        res_balance: float = 0.3,
        attn_balance: float = 0.3,
        clip_act: float = 256,
    ):
        super().__init__()
        require_even(img_resolution, len(channel_mult), resample_filter)
        self.label_dim, self.label_balance, self.concat_balance = label_dim, label_balance, concat_balance
        widths = [model_channels * mult for mult in channel_mult]
        narrow = widths[0] if channel_mult_noise is None else model_channels * channel_mult_noise
        wide = max(widths) if channel_mult_emb is None else model_channels * channel_mult_emb
        self.out_gain = nn.Parameter(torch.zeros([]))
        self.emb_fourier, self.emb_noise = Fourier(narrow), Weighted(narrow, wide)
        if label_dim:
            self.emb_label = Weighted(label_dim, wide)

        def block(channels: int, out: int, encodes: bool, resize: str = "", attention: bool = False) -> Block:
            heads = out // channels_per_head if attention else 0
            return Block(
                channels, out, wide, encodes, resize, heads, resample_filter, res_balance, attn_balance, clip_act
            )

        self.enc, self.dec = nn.ModuleDict(), nn.ModuleDict()
        sizes = [img_resolution >> level for level in range(len(widths))]
        out, skips = widths[0], [widths[0]]
        for size, width in zip(sizes, widths, strict=True):
            if size == img_resolution:
                self.enc[f"{size}x{size}_conv"] = Weighted(img_channels + 1, out, 3)
            else:
                self.enc[f"{size}x{size}_down"] = block(out, out, True, "down")
                skips.append(out)
            for i in range(num_blocks):
                self.enc[f"{size}x{size}_block{i}"] = block(out, width, True, "", size in attn_resolutions)
                out = width
                skips.append(out)
        for size, width in reversed(list(zip(sizes, widths, strict=True))):
            if size == sizes[-1]:
                self.dec[f"{size}x{size}_in0"] = block(out, out, False, "", True)
                self.dec[f"{size}x{size}_in1"] = block(out, out, False)
            else:
                self.dec[f"{size}x{size}_up"] = block(out, out, False, "up")
            for i in range(num_blocks + 1):
                joint = out + skips.pop()
                self.dec[f"{size}x{size}_block{i}"] = block(joint, width, False, "", size in attn_resolutions)
                out = width
        self.out_conv = Weighted(out, img_channels, 3)

    def forward(self, x: Tensor, noise: Tensor, label: Tensor | None) -> Tensor:
        """x [N, C, R, R]; noise [N], the conditioning on its level; label [N, label_dim], None for none."""
        embedding = self.emb_noise(self.emb_fourier(noise))
        if label is not None:
            embedding = mixed(embedding, self.emb_label(label * math.sqrt(self.label_dim)), self.label_balance)
        embedding = silu(embedding)
        x = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        skips = []
        for module in self.enc.values():
            x = module(x, embedding) if isinstance(module, Block) else module(x)
            skips.append(x)
        for name, module in self.dec.items():
            x = module(joined(x, skips.pop(), self.concat_balance) if "_block" in name else x, embedding)
        image: Tensor = self.out_conv(x, self.out_gain)
        return image


class Precond(nn.Module):
    """D(x; σ) = c_skip x + c_out F(c_in x; ln(σ) / 4) of arXiv:2206.00364, eq. 7.

    logvar_channels: width of the part that only the training uses.
    """

    def __init__(
        self,
        img_resolution: int,
        img_channels: int,
        label_dim: int,
        sigma_data: float = 0.5,
        logvar_channels: int = 128,
        *,
        network: UNet,
    ):
        super().__init__()
        if sigma_data <= 0:
            raise ValueError(f"sigma_data={sigma_data} must be positive")
        self.img_resolution, self.img_channels, self.label_dim = img_resolution, img_channels, label_dim
        self.sigma_data, self.unet = sigma_data, network
        self.logvar_fourier, self.logvar_linear = Fourier(logvar_channels), Weighted(logvar_channels, 1)

    def forward(self, x: Tensor, sigma: Tensor, label: Tensor | None = None) -> Tensor:
        """Images without noise from x [N, C, R, R] at noise level σ, a scalar; label [N, label_dim] for classes."""
        x, sigma = x.float(), sigma.float()
        total = sigma.square() + self.sigma_data**2
        found = self.unet(total.rsqrt() * x, (sigma.log() / 4).expand(len(x)), label if self.label_dim else None)
        clean: Tensor = self.sigma_data**2 / total * x + sigma * self.sigma_data * total.rsqrt() * found
        return clean
