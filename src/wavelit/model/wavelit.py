"""WaveLiT: a PDE emulator of 0.3 to 10M parameters with wavelet tokens, mixed by convolutions or
augmented linear attention, at one scale or in a shared pyramid.

    y = IDWT( head( pyramid( embed( DWT( normalise(u(t-T+1..t)) ) ) ) ) )
    u(t+1) = u(t) + sigma_D . (y + detail(y, u(t)))

The correction `detail` is there only with `detail_dim`. Where the training data keep a field's mean
over the grid, so does the model.

What is unusual: tokens are wavelet coefficients, and the loss weighs their sub-bands alike
(`losses`); the history is read as increments between its states, and the increment is what is
predicted, each scaled by its own spread; all normalisation lives in buffers, so that a checkpoint
takes and returns physical units.

References:
    Sankaran, Wang, Perdikaris, Small Models, Strong Priors: Architectural Inductive Bias for
    Parameter-Efficient Neural PDE Solvers, 2026, arXiv 2605.25949. Family, levels, feature map,
    exchange and head are choices made here (docs/design.md).
"""

# No postponed annotations here: the hub mixin reads the type of `config` from the constructor's
# signature.

import dataclasses
import math
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from huggingface_hub import ModelCard, PyTorchModelHubMixin
from torch import Tensor, nn
from typing_extensions import Self

from wavelit.checks.arguments import require_dense
from wavelit.errors import WavelitError
from wavelit.model.attention import AugmentedLinearAttention
from wavelit.model.block import Block, ScaledRMSNorm
from wavelit.model.boundaries import boundary_features
from wavelit.model.card import card
from wavelit.model.config import (
    WaveLiTConfig,
    pad_grid,
    padded_shape,
    scales_that_fit,
    with_fitting_mixers,
)
from wavelit.model.conv_head import ConvHead
from wavelit.model.emulator import IncrementEmulator
from wavelit.model.losses import wavelet_loss
from wavelit.model.mixers import GatedLongConv
from wavelit.model.normalizer import Normalizer
from wavelit.model.pretrained import read_model, write_model
from wavelit.model.pyramid import Exchange, Pyramid
from wavelit.model.tokenizer import WaveletTokenizer
from wavelit.ops.depthwise import DepthwiseConv
from wavelit.ops.projection import divergence_free

__all__ = ["DatasetFacts", "WaveLiT", "configuration_of"]


class DatasetFacts(Protocol):
    """What `WaveLiT.from_metadata` reads of a dataset's metadata; The Well's own `WellMetadata`
    has it all.
    """

    dataset_name: str
    n_spatial_dims: int
    spatial_resolution: Any
    n_constant_scalars: int
    boundary_condition_types: list[str]

    @property
    def n_fields(self) -> int: ...
    @property
    def n_constant_fields(self) -> int: ...


class WaveLiT(
    IncrementEmulator,
    PyTorchModelHubMixin,
    library_name="wavelit",
    tags=["PDE", "emulator", "wavelets"],
):
    """The emulator: the next state of a PDE from its last T states, in physical units.

    Args:
        config: The architecture and the layout of the data.
    """

    def __init__(self, config: WaveLiTConfig) -> None:
        super().__init__()
        self.config = config
        self.spatial, self.n_steps_input = config.spatial, config.n_steps_input
        self.normalizer = Normalizer(config.n_fields, config.n_constant_fields, config.n_scalars)
        self.tokenizer = WaveletTokenizer(
            config.spatial, config.levels, config.periodic, config.wavelet
        )
        q, c, e = self.tokenizer.n_coefficients, config.n_fields, config.embed_dim
        n_in = config.n_steps_input * c + config.n_constant_fields
        # RMS of every sub-band: of the T frames that are read and the constant fields (T C + K, Q),
        # of the scaled increment (C, Q).
        self.register_buffer("input_scale", torch.ones(n_in, q))
        self.register_buffer("output_scale", torch.ones(c, q))
        self.input_scale: Tensor
        self.output_scale: Tensor
        self.register_buffer("conserved", torch.zeros(c, dtype=torch.bool))
        self.conserved: Tensor
        # Of every vector field that is kept free of divergence, its first component; the distance
        # between points. Calibration sets them.
        self.solenoidal: Tensor | None
        self.cell: Tensor | None
        on = config.divergence_free
        self.register_buffer("solenoidal", torch.zeros(c, dtype=torch.bool) if on else None)
        self.register_buffer("cell", torch.ones(config.spatial) if on else None)
        # As numbers: a device would be waited for at every step.
        self._vectors: list[int] = []
        self.embed = nn.Linear(n_in * q, e)
        n_sides = sum(kind != "periodic" for pair in config.boundary_conditions for kind in pair)
        self.boundary = nn.Linear(2 * n_sides, e, bias=False) if n_sides else None
        condition_dim = config.condition_dim
        self.condition = nn.Linear(config.n_scalars, condition_dim) if condition_dim else None
        self.pyramid = Pyramid(config)
        self.norm = ScaledRMSNorm(e, 1)
        self.head = nn.Linear(e, c * q)
        self.skip = nn.Linear(n_in * q, c * q, bias=False)
        n_present = c + config.n_constant_fields
        self.detail = (
            ConvHead(
                n_present + c,
                config.detail_dim,
                c,
                config.periodic,
                config.detail_gate,
                config.detail_bound,
            )
            if config.detail_dim
            else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """All initialisation: uniform of variance 1 / (3 fan_in), unit gains, small residual
        branches, a zero head.
        """
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
            elif isinstance(module, GatedLongConv):
                module.reset_gain()
            elif isinstance(module, Exchange):
                nn.init.constant_(module.down_gate, 0.1)
                nn.init.constant_(module.up_gate, 0.1)
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.constant_(module.attention_scale, self.config.layer_scale)
                nn.init.constant_(module.mlp_scale, self.config.layer_scale)
                if module.modulation is not None:
                    nn.init.zeros_(module.modulation.weight)
        # On the meta device it would import the compiler.
        if not self.pyramid.level_embedding.is_meta:
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
            name: pocketwell/<system> for one that comes with the package
                (`wavelit.model.pretrained`), a run folder, a folder that `save_pretrained` wrote,
                or a name on the Hugging Face hub.
            map_location: Where its weights go.
            strict: Whether the weights must be all that the configuration asks for, and no others.
            **hub: For a name on the hub, what `huggingface_hub.hf_hub_download` takes, such as
                revision.

        Raises:
            WavelitError: No such model in the package, no such folder, nothing of that name on the
                hub, an entry in its configuration that this version does not know, or weights that
                are damaged, not finite or of another model.
        """
        return read_model(name, cls, map_location, strict, **hub)

    def _save_pretrained(self, save_directory: Path) -> None:
        """What `save_pretrained` and `push_to_hub` write beside the card."""
        write_model(save_directory, self, self.config)

    def generate_model_card(self, *_: Any, **__: Any) -> ModelCard:
        """The card that they write: `wavelit.model.card`."""
        return ModelCard(card(self.config, self.n_parameters, self.signature))

    @classmethod
    def from_metadata(
        cls,
        metadata: DatasetFacts,
        boundary_conditions: Sequence[Sequence[str]] | None = None,
        preset: str = "3M",
        **changes: Any,
    ) -> Self:
        """A model for a dataset of The Well.

        Args:
            metadata: `WellDataset.metadata`.
            boundary_conditions: Per axis the (low, high) types. The metadata list types without
                naming axes, so this is needed unless one type occurs.
            preset: A key of `PRESETS`.
            changes: Entries of `WaveLiTConfig` to change.

        Raises:
            WavelitError: Several boundary types and no `boundary_conditions`; a periodic axis that
                does not divide.
        """
        return cls(configuration_of(metadata, boundary_conditions, preset, **changes))

    def increment(
        self, fields: Tensor, constants: Tensor | None = None, scalars: Tensor | None = None
    ) -> Tensor:
        """The predicted increment over its standard deviation, (B, C, *S) in float32: what the
        loss compares.
        """
        self._check(fields, constants, scalars)
        frames = self._normalise(fields, constants)  # (B, T C + K, *S)
        tokens = self.tokenizer.encode_tokens(
            pad_grid(frames, self.config)
        )  # (B, *S / 2^J, (T C + K) Q)
        shape, grid = frames.shape[2:], tokens.shape[1:-1]
        h, linear = self._read(tokens.flatten(1, -2))  # (B, L, E) and (B, L, C Q)
        h = self._mark_boundaries(h, grid, shape)
        h = self.pyramid(h, grid, self.config.periodic, self._condition(scalars))
        out = self._write(self.norm(h)) + linear  # (B, L, C Q)
        y = _crop(self.tokenizer.decode_tokens(out.unflatten(1, grid)), shape)  # (B, C, *S)
        return (
            y if self.detail is None else y + self.detail(torch.cat([self._present(frames), y], 1))
        )

    def _normalise(self, fields: Tensor, constants: Tensor | None) -> Tensor:
        x = self.normalizer.fields(fields).flatten(1, 2)
        return x if constants is None else torch.cat([x, self.normalizer.constants(constants)], 1)

    def _read(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, L, (T C + K) Q) as the pyramid's channels, and the linear part of the
        prediction.
        """
        out_scale = self.output_scale.flatten()
        # Scaling and differencing the tokens is doing so to the columns of what reads them: no pass
        # over the data. The columns of neighbouring states nearly cancel: rounded to bfloat16 they
        # would leave a few per cent of noise.
        with torch.autocast(tokens.device.type, enabled=False):
            h = F.linear(tokens, self._fold_scales_into_weight(self.embed.weight), self.embed.bias)
            linear = F.linear(
                tokens, self._fold_scales_into_weight(self.skip.weight) * out_scale[:, None]
            )
        return h, linear

    def _mark_boundaries(self, h: Tensor, grid: Sequence[int], shape: Sequence[int]) -> Tensor:
        """Add to every token (B, L, E) how far walls and open sides are."""
        if self.boundary is None:
            return h
        side = 2**self.config.levels
        cells = [n / side for n in shape]
        wide = torch.promote_types(h.dtype, torch.float32)
        sides = boundary_features(grid, cells, self.config.boundary_conditions, h.device, wide)
        marked: Tensor = h + self.boundary(sides.to(h))
        return marked

    def _condition(self, scalars: Tensor | None) -> Tensor | None:
        if self.condition is None or scalars is None:
            return None
        return F.silu(self.condition(self.normalizer.scalars(scalars)))

    def _write(self, h: Tensor) -> Tensor:
        """The pyramid's channels (B, L, E) as coefficients of the increment (B, L, C Q)."""
        out_scale = self.output_scale.flatten()
        return F.linear(h, self.head.weight * out_scale[:, None], self.head.bias * out_scale)

    def _present(self, frames: Tensor) -> Tensor:
        """The last state and the constants: the history, read at full resolution too, made
        rollouts blow up (docs/log.md).
        """
        return frames[:, (self.config.n_steps_input - 1) * self.config.n_fields :]

    def advance(self, state: Tensor, increment: Tensor) -> Tensor:
        """The next state (`IncrementEmulator.advance`), its conserved means those of the last
        state.

        They are kept here and not in `increment`: the loss is to punish their drift too
            (docs/log.md).
        """
        axes = tuple(range(2, increment.ndim))
        kept = self.kept.view(-1, *(1,) * len(axes))
        drift = torch.where(kept, increment.mean(axes, keepdim=True), 0.0)
        following = self.normalizer.add_increment(state, increment - drift)
        return following if self.solenoidal is None else self._projected(state, following)

    def _projected(self, state: Tensor, following: Tensor) -> Tensor:
        """The next state with the increments of its vector fields free of divergence."""
        assert self.cell is not None
        d, channels = self.spatial, list(following.unbind(1))
        for first in self._vectors:
            own = slice(first, first + d)
            step = divergence_free(following[:, own] - state[:, own], self.cell)
            channels[own] = (state[:, own] + step).unbind(1)
        return torch.stack(channels, 1)

    def set_solenoidal(self, marks: Tensor, cell: Sequence[float]) -> None:
        """Say which vector fields are kept free of divergence.

        Args:
            marks: (C,) bool, true at the first component of each.
            cell: Distance between points along each axis.
        """
        assert self.solenoidal is not None
        assert self.cell is not None
        self.solenoidal.copy_(marks)
        self.cell.copy_(torch.tensor(list(cell)))
        self._number_vectors()

    def _load_from_state_dict(self, *given: Any) -> None:
        super()._load_from_state_dict(*given)
        self._number_vectors()

    def _number_vectors(self) -> None:
        if self.solenoidal is not None and not self.solenoidal.is_meta:
            self._vectors = torch.nonzero(self.solenoidal).flatten().tolist()

    @property
    def kept(self) -> Tensor:
        """Which fields' means over the grid the model keeps, (C,): those that calibration found
        kept, none without `conserve`.
        """
        return self.conserved & self.config.conserve

    def checkpoint_activations(self, enabled: bool) -> None:
        """Keep only the blocks' inputs for the backward pass: a fraction of the memory for a
        quarter more time.
        """
        self.pyramid.activation_checkpointing = enabled

    def wavelet_loss(self, error: Tensor) -> Tensor:
        """`wavelit.model.losses.wavelet_loss` with the model's own transform and scales."""
        return wavelet_loss(pad_grid(error, self.config), self.tokenizer, self.output_scale)

    def _fold_scales_into_weight(self, weight: Tensor) -> Tensor:
        """Columns that read scaled frames (E, (T C + K) Q), as columns that read the states' own
        tokens.
        """
        weight = weight / self.input_scale.flatten()
        t = self.config.n_steps_input
        if self.config.history == "states" or t == 1:
            return weight
        n = t * self.config.n_fields * self.tokenizer.n_coefficients
        frames = weight[:, :n].unflatten(1, (t, -1))
        # u(t+1) - u(t) adds its columns to the later state and takes them from the earlier; the
        # last frame is a state.
        increments = frames[:, :-1]
        states = torch.cat([-increments, frames[:, -1:]], 1) + F.pad(increments, (0, 0, 1, 0))
        return torch.cat([states.flatten(1), weight[:, n:]], 1)

    def _check(self, fields: Tensor, constants: Tensor | None, scalars: Tensor | None) -> None:
        config = self.config
        given = {"fields": fields, "constants": constants, "scalars": scalars}
        device, dtype = self.embed.weight.device, self.embed.weight.dtype
        for name, value in given.items():
            if value is None:
                continue
            require_dense(name, value)
            if value.device != device:
                raise WavelitError(
                    f"{name} are on {value.device}, the model on {device}: move one to the other"
                )
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
            due = (fields.shape[0], channels, *(fields.shape[3:] if name == "constants" else ()))
            if value is not None and shape != due:
                raise WavelitError(
                    f"{name} must be {due}, as fields are {tuple(fields.shape)}, came {shape}"
                )
        if dtype.itemsize < 4:
            raise WavelitError(
                f"weights are {dtype}: keep them in float32 and compute under torch.autocast"
            )
        for name, value in given.items():
            if value is not None and value.dtype.itemsize > dtype.itemsize:
                raise WavelitError(
                    f"{name} are {value.dtype}, the weights {dtype}: convert by .to({dtype}), "
                    "a numpy array by .astype"
                )


def configuration_of(
    metadata: DatasetFacts,
    boundary_conditions: Sequence[Sequence[str]] | None = None,
    preset: str = "3M",
    **changes: Any,
) -> WaveLiTConfig:
    """The configuration of a model for a dataset of The Well; arguments and errors as for
    `WaveLiT.from_metadata`. Warns where the grid asks for other scales or kernels than the preset.
    """
    if boundary_conditions is None:
        kinds = sorted({kind.lower() for kind in metadata.boundary_condition_types})
        if len(kinds) != 1:
            raise WavelitError(
                f"{metadata.dataset_name} has boundaries "
                f"{', '.join(kinds) or 'of no stated type'}: say which axis has which, "
                "boundary_conditions=((low, high), ...)"
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
    shape = metadata.spatial_resolution
    if not {"levels", "num_scales"} & set(changes) and (fitting := scales_that_fit(shape, config)):
        levels, num_scales = fitting
        finer = 2 ** (config.spatial * (config.levels - levels))
        warnings.warn(
            f"a periodic axis of {metadata.dataset_name}, {' x '.join(map(str, shape))} points, is "
            f"no multiple of {config.grid_multiple}: levels={levels} and "
            f"num_scales={num_scales} are taken instead of {config.levels} and "
            f"{config.num_scales}" + (f", {finer} times the tokens" if finer > 1 else ""),
            stacklevel=2,
        )
        config = dataclasses.replace(config, levels=levels, num_scales=num_scales)
    if "mixers" not in changes:
        config = with_fitting_mixers(shape, config, metadata.dataset_name)
    padded_shape(shape, config)
    return config


def _crop(y: Tensor, shape: Sequence[int]) -> Tensor:
    """The domain (B, C, *shape) of a padded grid."""
    for axis, n in enumerate(shape):
        y = y.narrow(2 + axis, 0, n)
    return y


def _init_uniform(weight: Tensor, fan_in: int) -> None:
    bound = 1 / math.sqrt(fan_in)
    nn.init.uniform_(weight, -bound, bound)
