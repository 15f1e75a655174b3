"""WaveLiT: a PDE emulator of 0.3 to 10M parameters with wavelet tokens, augmented linear attention and a shared pyramid.

    u(t+1) = u(t) + sigma_D . (y + detail(y, u(t))),     y = IDWT( head( pyramid( embed( DWT( normalise(u(t-T+1..t)) ) ) ) ) )

The correction `detail` is there only with `detail_dim`. Where the training data keep a field's mean over the grid, so does the model.

What is unusual: tokens are wavelet coefficients, and the loss weighs their sub-bands alike (`losses`); the history is read as
increments between its states, and the increment is what is predicted, each scaled by its own spread; all normalisation lives
in buffers, so that a checkpoint takes and returns physical units.

References:
    Sankaran, Wang, Perdikaris, Small Models, Strong Priors: Architectural Inductive Bias for Parameter-Efficient Neural
    PDE Solvers, 2026, arXiv 2605.25949. Family, levels, feature map, exchange and head are choices made here (docs/design.md).
"""

# No postponed annotations here: the hub mixin reads the type of `config` from the constructor's signature.

import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from huggingface_hub import PyTorchModelHubMixin
from the_well.data.datasets import WellMetadata
from torch import Tensor, nn
from typing_extensions import Self

from wavelit.data.datamodule import Batch
from wavelit.data.statistics import Normalizer
from wavelit.errors import WavelitError
from wavelit.model.attention import AugmentedLinearAttention
from wavelit.model.config import BoundaryConditions, WaveLiTConfig, pad_grid, padded_shape
from wavelit.model.conv_head import DetailHead
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.losses import wavelet_loss
from wavelit.model.pretrained import read_model, write_model
from wavelit.model.pyramid import Block, Exchange, Pyramid, ScaledRMSNorm
from wavelit.model.tokenizer import WaveletTokenizer
from wavelit.ops.token_layout import DepthwiseConv

__all__ = ["WaveLiT", "boundary_features"]

# A sub-band quieter than this share of its field's RMS is scaled by the share: empty bands amplify nothing.
BAND_FLOOR = 0.02
# An increment of the history quieter than this share of its sub-band is scaled by the share: a prediction's own errors are not.
INCREMENT_FLOOR = 0.1
# A field is conserved if its mean over the grid moves by less than this share of its increment, RMS. Rounding in float32 data moves
# it by 1e-9 to 3e-7, what is not conserved by 1e-3 or more (PocketWell's systems).
CONSERVED = 1e-4


Model = TypeVar("Model", bound="WaveLiT")


class WaveLiT(
    IncrementEmulator,
    PyTorchModelHubMixin,
    library_name="wavelit",
    license="mit",
    tags=["PDE", "emulator", "wavelets"],
):
    """The emulator: the next state of a PDE from its last T states, in physical units.

    Args:
        config: The architecture and the layout of the data.
    """

    def __init__(self, config: WaveLiTConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial = config.spatial
        self.normalizer = Normalizer(config.n_fields, config.n_constant_fields, config.n_scalars)
        self.tokenizer = WaveletTokenizer(config.spatial, config.levels, config.periodic, config.wavelet)
        q, c, e = self.tokenizer.n_coefficients, config.n_fields, config.embed_dim
        n_in = config.n_steps_input * c + config.n_constant_fields
        # RMS of every sub-band: of the T frames that are read and the constant fields (T C + K, Q), of the scaled increment (C, Q).
        self.register_buffer("input_scale", torch.ones(n_in, q))
        self.register_buffer("output_scale", torch.ones(c, q))
        self.input_scale: Tensor
        self.output_scale: Tensor
        self.register_buffer("conserved", torch.zeros(c, dtype=torch.bool))
        self.conserved: Tensor
        self.embed = nn.Linear(n_in * q, e)
        n_sides = sum(kind != "periodic" for pair in config.boundary_conditions for kind in pair)
        self.boundary = nn.Linear(2 * n_sides, e, bias=False) if n_sides else None
        condition_dim = e // 2 if config.condition and config.n_scalars else 0
        self.condition = nn.Linear(config.n_scalars, condition_dim) if condition_dim else None
        self.pyramid = Pyramid(
            e,
            config.num_heads,
            config.depth,
            config.mlp_ratio,
            config.spatial,
            config.num_scales,
            config.num_exchanges,
            config.shared,
            condition_dim,
            {name: getattr(config, name) for name in ("feature_map", "centre", "gate", "local")},
        )
        self.norm = ScaledRMSNorm(e, 1)
        self.head = nn.Linear(e, c * q)
        self.skip = nn.Linear(n_in * q, c * q, bias=False)
        n_present = c + config.n_constant_fields
        self.detail = (
            DetailHead(n_present + c, config.detail_dim, c, config.periodic) if config.detail_dim else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All initialisation: uniform of variance 1 / (3 fan_in), unit gains, small residual branches, a zero head."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                _init_uniform(module.weight, module.in_features)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, DepthwiseConv | nn.Conv1d | nn.Conv2d | nn.Conv3d):
                assert module.bias is not None
                _init_uniform(module.weight, module.weight[0].numel())
                nn.init.zeros_(module.bias)
            elif isinstance(module, ScaledRMSNorm):
                nn.init.ones_(module.gain)
            elif isinstance(module, AugmentedLinearAttention):
                for gain in (module.query_gain, module.key_gain, module.head_gain):
                    nn.init.ones_(gain)
                if module.mean_gain is not None:
                    nn.init.zeros_(module.mean_gain)
            elif isinstance(module, Exchange):
                nn.init.constant_(module.down_gate, 0.1)
                nn.init.constant_(module.up_gate, 0.1)
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.constant_(module.attention_scale, self.config.layer_scale)
                nn.init.constant_(module.mlp_scale, self.config.layer_scale)
                if module.modulation is not None:
                    nn.init.zeros_(module.modulation.weight)
        nn.init.normal_(self.pyramid.level_embedding, std=0.02)
        nn.init.zeros_(self.head.weight)
        if self.detail is not None:
            nn.init.zeros_(self.detail.write.weight)
        nn.init.zeros_(self.skip.weight)

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | os.PathLike[str],
        *,
        map_location: str | torch.device = "cpu",
        strict: bool = True,
        **hub: Any,
    ) -> Self:
        """A trained model.

        Args:
            name: pocketwell/<system> for one that comes with the package (`wavelit.model.pretrained`), a run folder, a folder that
                `save_pretrained` wrote, or a name on the Hugging Face hub.
            map_location: Where its weights go.
            strict: Whether the weights must be all that the configuration asks for, and no others.
            **hub: For a name on the hub, what `huggingface_hub.hf_hub_download` takes, such as revision.

        Raises:
            WavelitError: No such model in the package, no such folder, nothing of that name on the hub, an entry in its
                configuration that this version does not know, or weights that are damaged, not finite or of another model.
        """
        return read_model(name, cls, map_location, strict, **hub)

    def _save_pretrained(self, save_directory: Path) -> None:
        """What `save_pretrained` and `push_to_hub` write; the card is theirs."""
        write_model(save_directory, self, self.config)

    @classmethod
    def from_metadata(
        cls,
        metadata: WellMetadata,
        boundary_conditions: Sequence[Sequence[str]] | None = None,
        preset: str = "3M",
        **changes: Any,
    ) -> Self:
        """A model for a dataset of The Well.

        Args:
            metadata: `WellDataset.metadata`.
            boundary_conditions: Per axis the (low, high) types. The metadata list types without naming axes, so this is
                needed unless one type occurs.
            preset: A key of `PRESETS`.
            changes: Entries of `WaveLiTConfig` to change.

        Raises:
            WavelitError: Several boundary types and no `boundary_conditions`; a periodic axis that does not divide.
        """
        if boundary_conditions is None:
            kinds = sorted({kind.lower() for kind in metadata.boundary_condition_types})
            if len(kinds) != 1:
                raise WavelitError(
                    f"{metadata.dataset_name} has boundaries {', '.join(kinds) or 'of no stated type'}: say which axis "
                    "has which, boundary_conditions=((low, high), ...)"
                )
            boundary_conditions = ((kinds[0], kinds[0]),) * metadata.n_spatial_dims
        facts: dict[str, Any] = {
            "n_fields": metadata.n_fields,
            "n_constant_fields": metadata.n_constant_fields,
            "n_scalars": metadata.n_constant_scalars,
            "spatial": metadata.n_spatial_dims,
            "boundary_conditions": tuple(tuple(pair) for pair in boundary_conditions),
        }
        config = WaveLiTConfig.preset(preset, **{**facts, **changes})
        padded_shape(metadata.spatial_resolution, config)
        return cls(config)

    def increment(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The predicted increment over its standard deviation, (B, C, *S) in float32: what the loss compares."""
        self._check(fields, constants, scalars)
        x = self.normalizer.fields(fields).flatten(1, 2)
        if constants is not None:
            x = torch.cat([x, self.normalizer.constants(constants)], 1)
        frames, shape = x, x.shape[2:]
        x = pad_grid(x, self.config)
        tokens = self.tokenizer.encode_tokens(x)  # (B, *S / 2^J, (T C + K) Q)
        grid = tokens.shape[1:-1]
        tokens = tokens.flatten(1, -2)  # (B, L, (T C + K) Q)
        out_scale = self.output_scale.flatten()
        # Scaling and differencing the tokens is doing so to the columns of what reads them: no pass over the data. The columns of
        # neighbouring states nearly cancel: rounded to bfloat16 they would leave a few per cent of noise.
        with torch.autocast(x.device.type, enabled=False):
            h = F.linear(tokens, self._on_states(self.embed.weight), self.embed.bias)
            linear = F.linear(tokens, self._on_states(self.skip.weight) * out_scale[:, None])
        if self.boundary is not None:
            side = 2**self.config.levels
            cells = [n / side for n in shape]
            wide = torch.promote_types(h.dtype, torch.float32)
            sides = boundary_features(grid, cells, self.config.boundary_conditions, h.device, wide)
            h = h + self.boundary(sides.to(h))
        condition = None
        if self.condition is not None and scalars is not None:
            condition = F.silu(self.condition(self.normalizer.scalars(scalars)))
        h = self.pyramid(h, grid, self.config.periodic, condition)
        h = self.norm(h)
        out = F.linear(h, self.head.weight * out_scale[:, None], self.head.bias * out_scale)
        out = out + linear
        y = self.tokenizer.decode_tokens(out.unflatten(1, grid))  # (B, C, *S_padded)
        for axis, n in enumerate(shape):
            y = y.narrow(2 + axis, 0, n)
        if self.detail is not None:
            # Not the history: read at full resolution too, it made rollouts blow up (docs/log.md).
            present = frames[:, (self.config.n_steps_input - 1) * self.config.n_fields :]
            y = y + self.detail(torch.cat([present, y], 1))
        return y

    def forward(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The next state (`IncrementEmulator.forward`), its conserved means those of the last state.

        They are kept here and not in `increment`: the loss is to punish their drift too (docs/log.md).
        """
        y = self.increment(fields, constants, scalars)
        axes = tuple(range(2, y.ndim))
        y = y - torch.where(self.kept.view(-1, *(1,) * len(axes)), y.mean(axes, keepdim=True), 0.0)
        return self.normalizer.add_increment(fields[:, -1], y)

    @property
    def kept(self) -> Tensor:
        """Which fields' means over the grid the model keeps, (C,): those that calibration found kept, none without `conserve`."""
        return self.conserved & self.config.conserve

    def wavelet_loss(self, error: Tensor) -> Tensor:
        """`wavelit.model.losses.wavelet_loss` with the model's own transform and scales."""
        return wavelet_loss(pad_grid(error, self.config), self.tokenizer, self.output_scale)

    @torch.no_grad()
    def calibrate(self, batches: Iterable[Batch]) -> None:
        """Measure on training batches the RMS of every sub-band of inputs and increments, and which fields keep their mean over
        the grid (none where cells are masked); the normaliser's statistics must be set before. Without it all scales are one
        and no field is conserved; with `band_scales` off the increments of the history alone are scaled, each channel as a whole.

        Raises:
            WavelitError: No batches.
        """
        config = self.config
        c, n_states = config.n_fields, config.n_steps_input * config.n_fields
        squares_in, squares_out = torch.zeros_like(self.input_scale), torch.zeros_like(self.output_scale)
        conserved = torch.ones_like(self.conserved)
        n_batches = 0
        for batch in batches:
            history = self.normalizer.fields(batch.fields)
            if config.history == "increments":
                history = torch.cat([history.diff(dim=1), history[:, -1:]], 1)
            x = history.flatten(1, 2)
            if batch.constants is not None:
                x = torch.cat([x, self.normalizer.constants(batch.constants)], 1)
            increment = self.normalizer.increment(batch.target[:, 0] - batch.fields[:, -1])
            if batch.valid is not None:
                # The step at the edge of the mask is no part of the dynamics.
                x, increment = x * batch.valid, increment * batch.valid
            moved = increment.flatten(2).mean(-1).square().mean(0)
            conserved &= (batch.valid is None) & (
                moved < CONSERVED**2 * increment.flatten(2).square().mean((0, 2))
            )
            for squares, value in ((squares_in, x), (squares_out, increment)):
                squares += self.tokenizer.band_rms(self.tokenizer.encode(pad_grid(value, config))) ** 2
            n_batches += 1
        if not n_batches:
            raise WavelitError("calibration needs at least one training batch, none came")
        inputs, outputs = ((squares / n_batches).sqrt() for squares in (squares_in, squares_out))
        if config.band_scales:
            scale_in, scale_out = _floored(inputs), _floored(outputs)
        else:
            inputs = inputs.square().mean(1, keepdim=True).sqrt().expand_as(inputs)
            scale_in, scale_out = torch.ones_like(inputs), torch.ones_like(outputs)
        if config.history == "increments":
            states = scale_in[n_states - c : n_states].repeat(config.n_steps_input - 1, 1)
            scale_in[: n_states - c] = inputs[: n_states - c].clamp(min=INCREMENT_FLOOR * states)
        self.input_scale.copy_(scale_in)
        self.output_scale.copy_(scale_out)
        self.conserved.copy_(conserved)

    def _on_states(self, weight: Tensor) -> Tensor:
        """Columns that read scaled frames (E, (T C + K) Q), as columns that read the states' own tokens."""
        weight = weight / self.input_scale.flatten()
        t = self.config.n_steps_input
        if self.config.history == "states" or t == 1:
            return weight
        n = t * self.config.n_fields * self.tokenizer.n_coefficients
        frames = weight[:, :n].unflatten(1, (t, -1))
        # u(t+1) - u(t) adds its columns to the later state and takes them from the earlier; the last frame is a state.
        increments = frames[:, :-1]
        states = torch.cat([-increments, frames[:, -1:]], 1) + F.pad(increments, (0, 0, 1, 0))
        return torch.cat([states.flatten(1), weight[:, n:]], 1)

    def _check(self, fields: Tensor, constants: Tensor | None, scalars: Tensor | None) -> None:
        config = self.config
        expected = (config.n_steps_input, config.n_fields)
        if fields.ndim != 3 + config.spatial or fields.shape[1:3] != expected:
            raise WavelitError(
                f"fields must be (B, T={expected[0]}, C={expected[1]}, {config.spatial} axes), "
                f"came {tuple(fields.shape)}"
            )
        expected_channels = {"constants": (constants, config.n_constant_fields)}
        if config.condition:
            expected_channels["scalars"] = (scalars, config.n_scalars)
        for name, (value, channels) in expected_channels.items():
            shape = (0, 0) if value is None else tuple(value.shape)
            if len(shape) < 2 or shape[1] != channels:
                came = shape[1] if len(shape) > 1 else f"shape {shape}"
                raise WavelitError(f"{name} must have {channels} channels, came {came}")
            due = (len(fields), channels, *(fields.shape[3:] if name == "constants" else ()))
            if value is not None and shape != due:
                raise WavelitError(f"{name} must be {due}, as fields are {tuple(fields.shape)}, came {shape}")
        dtype = self.embed.weight.dtype
        if dtype.itemsize < 4:
            raise WavelitError(f"weights are {dtype}: keep them in float32 and compute under torch.autocast")
        for name, value in (("fields", fields), ("constants", constants), ("scalars", scalars)):
            if value is not None and value.dtype.itemsize > dtype.itemsize:
                raise WavelitError(f"{name} are {value.dtype}, the weights {dtype}: convert by .to({dtype})")


def _floored(rms: Tensor) -> Tensor:
    """RMS of the sub-bands (N, Q) of N channels, at least `BAND_FLOOR` of the channel's own."""
    whole = rms.square().mean(1, keepdim=True).sqrt()
    # A channel that is zero throughout the batches (a mask that never occurs) keeps scale one.
    return torch.where(whole > 0, rms.clamp(min=BAND_FLOOR * whole), torch.ones_like(rms))


def _init_uniform(weight: Tensor, fan_in: int) -> None:
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(weight, -bound, bound)


def boundary_features(
    grid: Sequence[int],
    cells: Sequence[float],
    boundary: BoundaryConditions,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Two channels for every wall or open side: the distance from it over the domain's width, and exp(-distance / 2 tokens).

    Args:
        grid: Tokens along each axis, padding included.
        cells: Tokens that the domain itself covers along each axis.
        boundary: Per axis the (low, high) types.
        device: Where the result lives.
        dtype: Of the result.

    Returns:
        (L, 2 x sides), tokens in row-major order.
    """
    channels = []
    for axis, (n, width, sides) in enumerate(zip(grid, cells, boundary, strict=True)):
        centre = torch.arange(n, dtype=dtype, device=device) + 0.5
        for side, kind in enumerate(sides):
            if kind == "periodic":
                continue
            distance = (centre if side == 0 else width - centre).clamp(min=0)
            view = [1] * len(grid)
            view[axis] = n
            channels += [f.view(view).expand(*grid) for f in (distance / width, torch.exp(-distance / 2))]
    return torch.stack(channels, -1).flatten(0, -2)
