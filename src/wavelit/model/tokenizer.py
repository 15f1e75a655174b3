"""Fields to tokens and back: a multilevel wavelet transform folded onto its coarsest grid.

J levels of `wavelit.wavelets.transform.dwt` give an approximation on the grid S / 2^J and details
on S / 2^j, j <= J. Folding the details of level j by space-to-depth (blocks of 2^(J-j) points an
axis) puts them on the coarsest grid too: a token is the Q = 2^(J d) coefficients of one cell of 2^J
points an axis, and nothing is lost. For Haar the cell does not overlap its neighbours: the whole
map is one orthogonal Q x Q matrix acting on each patch. Haar tokens followed by a linear layer are
therefore a rotation of plain patches; what wavelets add is the scale of each sub-band and, with
longer filters, overlap. `wavelet=None` is that control: the same shapes, the identity for the
matrix.

References:
    Sankaran, Wang, Perdikaris, "Small Models, Strong Priors: Architectural Inductive Bias for
        Parameter-Efficient Neural PDE Solvers", 2026, arXiv 2605.25949 (wavelet tokens; family,
        levels and folding are choices made here).
    Mallat, "A theory for multiresolution signal decomposition: the wavelet representation", 1989.
"""

from __future__ import annotations

__all__ = ["WaveletTokenizer"]

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wavelit.errors import WavelitError
from wavelit.ops.derivatives import are_plain
from wavelit.wavelets.transform import band_names, check_setting, dwt, idwt


class WaveletTokenizer(nn.Module):
    """Lossless tokens: `decode(encode(x)) == x` up to rounding, linear both ways, without
    parameters.

    Half precision is computed and returned in float32, also under autocast: a bfloat16 round trip
    costs 0.4 %. The transform is a matrix product: `torch.set_float32_matmul_precision("high")`
    lets CUDA round its input to TF32 (relative 5e-4), more than the fine details of a smooth field
    are worth: use "highest".

    Args:
        spatial: number of axes, 1 to 3.
        levels: number of wavelet levels J; a token covers 2**J points an axis.
        periodic: per axis, whether it wraps.
        wavelet: one of `wavelit.wavelets.transform.WAVELETS`, or None for plain patches (one
            sub-band).

    Attributes:
        n_coefficients: coefficients per channel and token, Q = 2**(levels * spatial).
        bands: sub-band of each coefficient; 0 is the approximation, then details, the coarsest
            level first.
        n_bands: number of sub-bands.

    Raises:
        WavelitError: settings that contradict one another, or an unknown wavelet.
    """

    signs: Tensor | None

    def __init__(
        self, spatial: int, levels: int, periodic: Sequence[bool], wavelet: str | None = "haar"
    ) -> None:
        super().__init__()
        if spatial not in (1, 2, 3) or len(periodic) != spatial:
            raise WavelitError(
                f"expected 1 to 3 axes and one `periodic` flag each, got spatial={spatial}, "
                f"periodic={tuple(periodic)}; give a flag for every axis"
            )
        if levels < 1:
            raise WavelitError(
                f"levels must be at least 1, got {levels}; a token must cover 2 points an axis or "
                "more"
            )
        if wavelet is not None:
            check_setting(wavelet, periodic)
        self.spatial, self.levels, self.wavelet = spatial, levels, wavelet
        self.periodic = tuple(bool(wraps) for wraps in periodic)
        self.patch = 2**levels
        self.n_coefficients = self.patch**spatial
        # Per sub-band: log2 of the points an axis that one token holds, and their number.
        self._log2_sides = (0, *(scale for scale in range(levels) for _ in range(2**spatial - 1)))
        self._widths = tuple(2 ** (spatial * scale) for scale in self._log2_sides)
        if wavelet is None:
            self.bands: tuple[int, ...] = (0,) * self.n_coefficients
            self.n_bands = 1
        else:
            self.bands = tuple(
                band for band, width in enumerate(self._widths) for _ in range(width)
            )
            self.n_bands = len(band_names(levels, spatial))
        # Haar's matrix is 0 or +-1 times one factor a row; integers survive a cast of the module to
        # bfloat16.
        self.register_buffer(
            "signs", self._haar_signs() if wavelet == "haar" else None, persistent=False
        )

    def extra_repr(self) -> str:
        setting = f"levels={self.levels}, periodic={self.periodic}, wavelet={self.wavelet!r}"
        return f"spatial={self.spatial}, {setting}"

    def encode(self, x: Tensor) -> Tensor:
        """Transform fields (B, C, *S) to coefficients (B, C, Q, *S / 2**levels), a view of the
        tokens.

        Raises:
            WavelitError: an axis that is not a multiple of 2**levels.
        """
        tokens = self.encode_tokens(x)
        tokens = tokens.view(*tokens.shape[:-1], -1, self.n_coefficients)  # (B, *S', C, Q)
        return tokens.movedim((-2, -1), (1, 2))

    def decode(self, y: Tensor) -> Tensor:
        """Transform coefficients (B, C, Q, *S') back to fields (B, C, *S), the inverse of
        `encode`.
        """
        if y.ndim != self.spatial + 3 or y.shape[2] != self.n_coefficients:
            raise WavelitError(
                f"expected coefficients (B, C, {self.n_coefficients}, *S') with {self.spatial} "
                f"axes, got {tuple(y.shape)}; pass what `encode` returned"
            )
        return self.decode_tokens(y.movedim((1, 2), (-2, -1)).flatten(-2))

    def encode_tokens(self, x: Tensor) -> Tensor:
        """Transform fields (B, C, *S) to tokens (B, *S', C * Q), channels last, in one copy."""
        self._check_fields(x)
        x = x if x.dtype in (torch.float32, torch.float64) else x.float()
        if self.wavelet is None or self.signs is not None:
            return _encode_patches(x, self._matrix(x), self.patch)
        return self._encode_general(x)

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        """Transform tokens (B, *S', C * Q) back to fields (B, C, *S), the inverse of
        `encode_tokens`.
        """
        if tokens.ndim != self.spatial + 2 or tokens.shape[-1] % self.n_coefficients:
            raise WavelitError(
                f"expected tokens (B, *S', C * {self.n_coefficients}) with {self.spatial} axes, "
                f"got {tuple(tokens.shape)}; pass what `encode_tokens` returned"
            )
        tokens = tokens if tokens.dtype in (torch.float32, torch.float64) else tokens.float()
        if self.wavelet is None or self.signs is not None:
            return _decode_patches(tokens, self._matrix(tokens), self.patch)
        return self._decode_general(tokens)

    @torch.no_grad()
    def band_rms(self, coefficients: Tensor) -> Tensor:
        """Root mean square of each channel and sub-band, over batch, tokens and coefficients.

        Args:
            coefficients: (B, C, Q, *S').

        Returns:
            (C, Q), equal for coefficients of the same sub-band.
        """
        power = coefficients.double().square().mean((0, *range(3, coefficients.ndim)))  # (C, Q)
        bands = torch.tensor(self.bands, device=power.device)
        member = nn.functional.one_hot(bands, self.n_bands).to(power)  # (Q, n_bands)
        rms = (power @ member / member.sum(0)).sqrt()[:, bands]
        return rms.to(torch.promote_types(coefficients.dtype, torch.float32))

    def _encode_general(self, x: Tensor) -> Tensor:
        """The definition, by way of `dwt`."""
        assert self.wavelet is not None
        approximation, *details = dwt(x, self.wavelet, self.levels, self.periodic)
        bands = [approximation, *(band for level in details for band in level.values())]
        coarse = (x.shape[0], *approximation.shape[2:])
        folded = [
            _encode_patches(band, None, 2**scale).view(*coarse, -1, width)
            for band, scale, width in zip(bands, self._log2_sides, self._widths, strict=True)
        ]
        return torch.cat(folded, -1).flatten(-2)

    def _decode_general(self, tokens: Tensor) -> Tensor:
        assert self.wavelet is not None
        folded = torch.split(
            tokens.reshape(*tokens.shape[:-1], -1, self.n_coefficients), list(self._widths), -1
        )
        bands = [
            _decode_patches(part.flatten(-2), None, 2**scale)
            for part, scale in zip(folded, self._log2_sides, strict=True)
        ]
        keys = [name.rstrip("0123456789") for name in band_names(self.levels, self.spatial)]
        count = 2**self.spatial - 1
        details = [
            dict(zip(keys[i : i + count], bands[i : i + count], strict=True))
            for i in range(1, len(bands), count)
        ]
        return idwt([bands[0], *details], self.wavelet, self.periodic)

    def _haar_signs(self) -> Tensor:
        """Send every unit patch through the definition: column q of the matrix is the tokens of
        patch q.
        """
        q, device = self.n_coefficients, torch.empty(0).device
        # Not on the meta device, where arithmetic imports the compiler.
        with torch.device("cpu"):
            patches = torch.eye(q, dtype=torch.float64).reshape(q, 1, *(self.patch,) * self.spatial)
            signs = self._encode_general(patches).reshape(q, -1).T.sign().to(torch.int8)
        return signs.to(device)

    def _matrix(self, x: Tensor) -> Tensor | None:
        """The orthogonal matrix (Q, Q) from patch to coefficients, or None for the identity."""
        if self.signs is None:
            return None
        return self.signs.to(x.dtype) * self.signs.abs().sum(1, keepdim=True).to(x.dtype).rsqrt()

    def _check_fields(self, x: Tensor) -> None:
        if x.ndim != self.spatial + 2:
            raise WavelitError(
                f"expected fields (B, C, *S) with {self.spatial} axes, got shape {tuple(x.shape)}"
            )
        for axis, length in enumerate(x.shape[2:]):
            if length % self.patch:
                fix = (
                    "lower levels or resample"
                    if self.periodic[axis]
                    else "pad it and crop after decoding"
                )
                raise WavelitError(
                    f"axis {axis} has {length} points, not a multiple of 2**levels = {self.patch}; "
                    f"{fix}"
                )


def _encode_patches(x: Tensor, matrix: Tensor | None, patch: int) -> Tensor:
    if are_plain():
        return _encoded(x, matrix, patch)
    tokens: Tensor = _EncodePatches.apply(x, matrix, patch)  # type: ignore[no-untyped-call]
    return tokens


def _decode_patches(tokens: Tensor, matrix: Tensor | None, patch: int) -> Tensor:
    if are_plain():
        return _decoded(tokens, matrix, patch)
    x: Tensor = _DecodePatches.apply(tokens, matrix, patch)  # type: ignore[no-untyped-call]
    return x


class _EncodePatches(torch.autograd.Function):
    """Patches times an orthogonal matrix; the adjoint is the inverse, `_DecodePatches`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, matrix: Tensor | None, patch: int) -> Tensor:
        ctx.save_for_backward(matrix)
        ctx.patch = patch
        return _encoded(x, matrix, patch)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (matrix,) = ctx.saved_tensors
        return _decode_patches(grad, matrix, ctx.patch), None, None


class _DecodePatches(torch.autograd.Function):
    """The inverse and adjoint of `_EncodePatches`."""

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, matrix: Tensor | None, patch: int) -> Tensor:
        ctx.save_for_backward(matrix)
        ctx.patch = patch
        return _decoded(tokens, matrix, patch)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (matrix,) = ctx.saved_tensors
        return _encode_patches(grad, matrix, ctx.patch), None, None


def _encoded(x: Tensor, matrix: Tensor | None, patch: int) -> Tensor:
    """What `_EncodePatches` computes."""
    tokens = _fold(x, patch)  # (B, *S', C, Q)
    if matrix is not None:
        # A caller's autocast would turn this product into bfloat16.
        with torch.autocast(x.device.type, enabled=False):
            tokens = tokens @ matrix.T
    return tokens.flatten(-2)


def _decoded(tokens: Tensor, matrix: Tensor | None, patch: int) -> Tensor:
    """What `_DecodePatches` computes."""
    q = patch ** (tokens.ndim - 2)
    patches = tokens.unflatten(-1, (tokens.shape[-1] // q, q))  # (B, *S', C, Q)
    if matrix is not None:
        with torch.autocast(tokens.device.type, enabled=False):
            patches = patches @ matrix
    return _unfold(patches, patch)


def _fold(x: Tensor, factor: int) -> Tensor:
    """Space-to-depth, channels last: (B, C, *S) to (B, *S / factor, C, factor**spatial)."""
    dtype, spatial = x.dtype, x.ndim - 2
    x, group = _widen(x.contiguous(), factor)
    factors = (*(factor,) * (spatial - 1), factor // group)
    sizes = [
        size for length, f in zip(x.shape[2:], factors, strict=True) for size in (length // f, f)
    ]
    x = x.reshape(*x.shape[:2], *sizes)
    coarse, fine = range(2, 2 + 2 * spatial, 2), range(3, 3 + 2 * spatial, 2)
    return _narrow(x.permute(0, *coarse, 1, *fine).flatten(-spatial).contiguous(), dtype)


def _unfold(y: Tensor, factor: int) -> Tensor:
    """Depth-to-space, the inverse of `_fold`: (B, *S', C, factor**spatial) to (B, C, *S' *
    factor).
    """
    dtype, spatial, channels = y.dtype, y.ndim - 3, y.shape[-2]
    y, group = _widen(y.contiguous(), factor)
    factors = (*(factor,) * (spatial - 1), factor // group)
    lengths = [length * f for length, f in zip(y.shape[1:-2], factors, strict=True)]
    y = y.reshape(*y.shape[:-1], *factors)
    order = [dim for axis in range(spatial) for dim in (1 + axis, spatial + 2 + axis)]
    y = y.permute(0, spatial + 1, *order).reshape(y.shape[0], channels, *lengths)
    return _narrow(y.contiguous(), dtype)


def _widen(x: Tensor, factor: int) -> tuple[Tensor, int]:
    """View neighbours that stay neighbours as one wide number: a copy 16 bytes at a time is up to
    6x faster.

    Compilers fuse such copies and do without; an odd storage offset forbids the view.
    """
    group = min(factor, 16 // x.element_size())
    if torch.compiler.is_compiling() or are_plain() or group == 1 or x.storage_offset() % group:
        return x, 1
    return x.view(torch.float64 if group * x.element_size() == 8 else torch.complex128), group


def _narrow(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Undo `_widen`; without a view where there is nothing to undo, as ONNX knows none."""
    return x if x.dtype == dtype else x.view(dtype)
