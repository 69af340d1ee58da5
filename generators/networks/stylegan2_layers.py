"""The layers of StyleGAN2 (Karras et al. 2020, arXiv:1912.04958): equalised, modulated and resampling ones.

Names of parameters are those of the published files.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...harness.formats.built import whole

GAIN = math.sqrt(2)
"""Gain of the leaky ReLU, with which it preserves the variance of its input."""
EPSILON = 1e-8
LAYERS = 200
"""Maximum number of layers of a mapping network."""


def normalised(x: Tensor) -> Tensor:
    """x [N, D, ...] scaled to mean square 1 over the second axis."""
    return x * (x.square().mean(1, keepdim=True) + EPSILON).rsqrt()


def activated(x: Tensor, clamp: float | None = None, gain: float = 1.0) -> Tensor:
    """Leaky ReLU of slope 0.2, times sqrt(2) and `gain`, then clamped to ±clamp·gain."""
    x = F.leaky_relu(x, 0.2) * (GAIN * gain)
    return x if clamp is None else x.clamp(-clamp * gain, clamp * gain)


def fir(taps: int = 4) -> Tensor:
    """The smoothing kernel [1, 3, 3, 1] x [1, 3, 3, 1] / 64, with zeros around it up to [taps, taps]."""
    profile = torch.tensor([1.0, 3.0, 3.0, 1.0], device="cpu")
    return widened(profile[:, None] * profile / 64, taps)


def widened(kernel: Tensor, taps: int) -> Tensor:
    """A kernel [K, K], or the taps [K] of a separable one, as [taps, taps] with the same effect. taps: even.

    The public code shifts kernels of odd size by half a pixel, as one more zero before them does.
    """
    plane = kernel[:, None] * kernel if kernel.ndim == 1 else kernel
    after = (taps - plane.shape[-1]) // 2
    before = taps - plane.shape[-1] - after
    return F.pad(plane, (before, after, before, after))


def smoothed(x: Tensor, kernel: Tensor, padding: int, stride: int = 1, gain: float = 1.0) -> Tensor:
    """x [N, C, H, W] with each channel filtered by `kernel`."""
    depthwise = (kernel.flip(0, 1) * gain).to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    return F.conv2d(x, depthwise, padding=padding, stride=stride, groups=x.shape[1])


def upsampled(x: Tensor, kernel: Tensor) -> Tensor:
    """x [N, C, H, W] at twice the size: zeros are inserted between the pixels, then the kernel is applied."""
    depthwise = (kernel * 4).to(x.dtype).expand(x.shape[1], 1, *kernel.shape)
    return F.conv_transpose2d(x, depthwise, stride=2, padding=len(kernel) // 2 - 1, groups=x.shape[1])


class Dense(nn.Module):
    """A linear layer with equalised learning rate: weights are scaled at run time. lr: multiplier of the rate.

    The input is made contiguous first. A matrix product of strided rows, such as those of one layer in w+, may be
    rounded in another way, and then the same w would give another image.
    """

    def __init__(self, inputs: int, outputs: int, lr: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr)
        self.bias = nn.Parameter(torch.full((outputs,), bias))
        self.lr, self.scale = lr, lr / math.sqrt(inputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.contiguous(), self.weight * self.scale, self.bias * self.lr)


class Mapping(nn.Module):
    """Maps z [N, z_dim], and one-hot labels [N, c_dim] if there are classes, to w [N, w_dim].

    width: of the hidden layers; embedding: of the embedded label. Both are w_dim unless given.
    """

    w_avg: Tensor
    embed: nn.Module

    def __init__(
        self, z_dim: int, c_dim: int, w_dim: int, layers: int = 8, width: int | None = None, lr: float = 0.01,
        embedding: int | None = None,
    ):  # fmt: skip
        super().__init__()
        self.z_dim, self.c_dim, self.layers = z_dim, c_dim, layers
        embedded = (embedding or w_dim) if c_dim else 0
        if c_dim:
            self.embed = Dense(c_dim, embedded)
        inputs = z_dim + embedded
        for i in range(whole(layers, "mapping_layers", most=LAYERS)):
            outputs = w_dim if i == layers - 1 else width or w_dim
            self.add_module(f"fc{i}", Dense(inputs, outputs, lr))
            inputs = outputs
        self.register_buffer("w_avg", torch.zeros(w_dim))

    def forward(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        x = normalised(z)
        if self.c_dim:
            if labels is None:
                raise ValueError("this mapping network is conditional: give labels")
            x = torch.cat([x, normalised(self.embedded(labels))], 1)
        for i in range(self.layers):
            x = activated(self.get_submodule(f"fc{i}")(x))
        return x

    def embedded(self, labels: Tensor) -> Tensor:
        """Features [N, embedding] of one-hot labels [N, c_dim], before their normalisation."""
        features: Tensor = self.embed(labels)
        return features

    def truncated(self, w: Tensor, psi: float, labels: Tensor | None = None) -> Tensor:
        """w moved towards the mean w, the truncation trick; psi 1 changes nothing, psi 0 gives the mean.

        labels: one-hot [N, c_dim], for networks with a mean for each class.
        """
        return w if psi == 1 else self.w_avg.lerp(w, psi)


class ModulatedConv(nn.Module):
    """Convolution whose weights are scaled by a style per image, then normalised; noise, bias and activation follow.

    noisy: whether the layer has a noise map, with its strength. taps: size of the smoothing kernel.

    One convolution with shared weights serves the whole batch: scaling the weights per image is equivalent to scaling
    the input channels before the convolution and the output channels after it.
    """

    resample_filter: Tensor
    noise_const: Tensor

    def __init__(
        self, inputs: int, outputs: int, w_dim: int, size: int, up: bool = False, clamp: float | None = None,
        noisy: bool = True, taps: int = 4,
    ):  # fmt: skip
        super().__init__()
        self.affine = Dense(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 3, 3))
        self.bias = nn.Parameter(torch.zeros(outputs))
        if noisy:
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise_const", torch.randn(size, size))
        self.register_buffer("resample_filter", fir(taps))
        self.up, self.clamp, self.noisy = up, clamp, noisy

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None, gain: float = 1.0) -> Tensor:
        style = self.affine(w)
        demodulation = (style.square() @ self.weight.square().sum((2, 3)).T + EPSILON).rsqrt()
        x = x * style[:, :, None, None].to(x.dtype)
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = smoothed(x, self.resample_filter, padding=len(self.resample_filter) // 2 - 1, gain=4)
        else:
            x = F.conv2d(x, self.weight, padding=1)
        x = x * demodulation[:, :, None, None].to(x.dtype)
        if noise is not None:
            x = x + (noise * self.noise_strength).to(x.dtype)
        return activated(x + self.bias[:, None, None].to(x.dtype), self.clamp, gain)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to image channels: no normalisation, no noise, no activation."""

    def __init__(self, inputs: int, outputs: int, w_dim: int, clamp: float | None = None):
        super().__init__()
        self.affine = Dense(w_dim, inputs, bias=1.0)
        self.weight = nn.Parameter(torch.randn(outputs, inputs, 1, 1))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.scale, self.clamp = 1 / math.sqrt(inputs), clamp

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) * self.scale
        x = F.conv2d(x * style[:, :, None, None].to(x.dtype), self.weight) + self.bias[:, None, None].to(x.dtype)
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class Conv(nn.Module):
    """Equalised convolution of the discriminator and of residual paths, with optional resampling and activation."""

    resample_filter: Tensor

    def __init__(
        self, inputs: int, outputs: int, kernel: int, bias: bool = True, active: bool = True,
        resample: Literal["up", "down"] | None = None, clamp: float | None = None, taps: int = 4,
    ):  # fmt: skip
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.register_buffer("resample_filter", fir(taps))
        self.scale, self.padding = 1 / math.sqrt(inputs * kernel**2), kernel // 2
        self.active, self.resample, self.clamp = active, resample, clamp

    def forward(self, x: Tensor, gain: float = 1.0) -> Tensor:
        weight = self.weight * self.scale
        if self.resample == "up":
            x = F.conv2d(upsampled(x, self.resample_filter), weight, padding=self.padding)
        elif self.resample == "down" and self.padding == 0:
            x = F.conv2d(smoothed(x, self.resample_filter, padding=1, stride=2), weight)
        elif self.resample == "down":
            x = F.conv2d(smoothed(x, self.resample_filter, padding=self.padding + 1), weight, stride=2)
        else:
            x = F.conv2d(x, weight, padding=self.padding)
        if self.bias is not None:
            x = x + self.bias[:, None, None].to(x.dtype)
        return activated(x, self.clamp, gain) if self.active else x * gain
