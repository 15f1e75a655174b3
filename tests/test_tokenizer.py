"""Wavelet tokens: exact inverse, fast path against definition, sub-bands, shifts, precision,
errors.
"""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from wavelit.errors import WavelitError
from wavelit.model.tokenizer import WaveletTokenizer
from wavelit.wavelets.transform import WAVELETS, dwt

SIZES = (16, 24, 8)
TOKENIZERS = [
    *(
        (w, [True] * spatial, levels)
        for w in (*WAVELETS, None)
        for spatial, levels in ((1, 3), (2, 2), (3, 1))
    ),
    *(
        (w, periodic, 2)
        for w in ("haar", "bior2.2", "bior4.4", None)
        for periodic in ([False], [True, False])
    ),
]


def fields(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("wavelet", "periodic", "levels"), TOKENIZERS)
def test_decode_inverts_encode(wavelet: str | None, periodic: list[bool], levels: int):
    spatial = len(periodic)
    tokenizer = WaveletTokenizer(spatial, levels, periodic, wavelet)
    for dtype, tolerance in ((torch.float64, 1e-11), (torch.float32, 1e-6)):
        x = fields(2, 3, *SIZES[:spatial], dtype=dtype)
        y = tokenizer.encode(x)
        assert y.dtype == dtype
        assert y.shape == (
            2,
            3,
            2 ** (levels * spatial),
            *(n // 2**levels for n in SIZES[:spatial]),
        )
        assert (tokenizer.decode(y) - x).norm() <= tolerance * x.norm()
        tokens = tokenizer.encode_tokens(x)
        assert tokens.is_contiguous()
        assert torch.equal(tokens, y.flatten(1, 2).movedim(1, -1))
        assert (tokenizer.decode_tokens(tokens) - x).norm() <= tolerance * x.norm()
    assert not list(tokenizer.parameters())
    assert not tokenizer.state_dict()


@pytest.mark.parametrize(
    ("spatial", "levels"), [(1, 1), (1, 3), (2, 1), (2, 2), (2, 3), (3, 1), (3, 2)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_haar_matrix_equals_the_definition(spatial: int, levels: int, dtype: torch.dtype):
    tokenizer = WaveletTokenizer(spatial, levels, [True] * spatial, "haar")
    x = fields(2, 2, *SIZES[:spatial], dtype=dtype).requires_grad_()
    fast, slow = tokenizer.encode_tokens(x), tokenizer._encode_general(x)
    torch.testing.assert_close(fast, slow)
    weight = fields(*fast.shape, dtype=dtype).requires_grad_()
    torch.testing.assert_close(
        torch.autograd.grad(fast, x, weight), torch.autograd.grad(slow, x, weight)
    )
    fast, slow = tokenizer.decode_tokens(weight), tokenizer._decode_general(weight)
    torch.testing.assert_close(fast, slow)
    torch.testing.assert_close(
        torch.autograd.grad(fast, weight, x), torch.autograd.grad(slow, weight, x)
    )


def test_coefficients_are_the_folded_transform():
    tokenizer = WaveletTokenizer(2, 2, [True, True], "haar")
    x = fields(1, 1, 16, 8)
    y = tokenizer.encode(x)[0, 0]
    approximation, coarse, fine = dwt(x[0, 0], "haar", 2, [True, True])
    torch.testing.assert_close(y[0], approximation)
    torch.testing.assert_close(y[3], coarse["dd"])
    # The second fine sub-band, "da", starts after 4 coarse coefficients and the 4 of "ad"; blocks
    # in row-major order.
    for row in range(2):
        for column in range(2):
            torch.testing.assert_close(y[8 + 2 * row + column], fine["da"][row::2, column::2])


def test_band_ids():
    tokenizer = WaveletTokenizer(2, 2, [True, True], "db2")
    assert tokenizer.bands == (0, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6)
    assert (tokenizer.n_coefficients, tokenizer.n_bands) == (16, 7)
    assert WaveletTokenizer(1, 3, [False], "bior2.2").bands == (0, 1, 2, 2, 3, 3, 3, 3)
    patches = WaveletTokenizer(2, 2, [True, True], None)
    assert (patches.bands, patches.n_coefficients, patches.n_bands) == ((0,) * 16, 16, 1)


def test_band_id_tells_the_level():
    """White noise of the finest detail alone lights the coefficients of its own sub-band only."""
    tokenizer = WaveletTokenizer(2, 2, [True, True], "haar")
    checkerboard = (-1.0) ** (torch.arange(8)[:, None] + torch.arange(8)).double()
    rms = tokenizer.band_rms(tokenizer.encode(checkerboard[None, None]))[0]
    torch.testing.assert_close(rms[12:], torch.full((4,), 2.0, dtype=torch.float64))  # "dd1"
    assert rms[:12].abs().max() < 1e-14


def test_patchify_is_space_to_depth():
    x = fields(2, 3, 8, 12)
    tokens = WaveletTokenizer(2, 2, [True, False], None).encode(x)
    torch.testing.assert_close(
        tokens.flatten(1, 2), torch.nn.functional.pixel_unshuffle(x, 4), rtol=0, atol=0
    )


@pytest.mark.parametrize("wavelet", [*WAVELETS, None])
def test_shift_by_a_token_shifts_tokens(wavelet: str | None):
    tokenizer = WaveletTokenizer(2, 2, [True, True], wavelet)
    x = fields(1, 2, 16, 24)
    shifted = tokenizer.encode(x.roll((4, -8), (2, 3)))
    torch.testing.assert_close(shifted, tokenizer.encode(x).roll((1, -2), (3, 4)))


@pytest.mark.parametrize("wavelet", ["haar", "db4", None])
def test_orthogonal_tokens_conserve_energy(wavelet: str | None):
    x = fields(2, 3, 16, 24)
    y = WaveletTokenizer(2, 2, [True, True], wavelet).encode(x)
    torch.testing.assert_close(y.square().sum((2, 3, 4)), x.square().sum((2, 3)))


def test_band_rms():
    tokenizer = WaveletTokenizer(2, 2, [True, True])
    y = fields(3, 2, 16, 4, 5)
    rms = tokenizer.band_rms(y)
    assert rms.shape == (2, 16)
    torch.testing.assert_close(rms[1, 2], y[:, 1, 2].square().mean().sqrt())
    torch.testing.assert_close(rms[0, 4:8], y[:, 0, 4:8].square().mean().sqrt().expand(4))
    assert tokenizer.band_rms(y.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("wavelet", ["haar", "bior2.2", None])
def test_half_precision_and_autocast_compute_in_float32(wavelet: str | None):
    tokenizer = WaveletTokenizer(1, 3, [True], wavelet)
    x = fields(2, 3, 24, dtype=torch.bfloat16)
    expected = tokenizer.encode(x.float())
    full = x.float().requires_grad_()
    (gradient,) = torch.autograd.grad(tokenizer.encode(full), full, expected)
    cast = copy.deepcopy(tokenizer).bfloat16()  # Lightning's "bf16-true" casts every buffer
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = cast.encode(x)
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, rtol=0, atol=0)
        torch.testing.assert_close(cast.decode(ours), x.float())
        torch.testing.assert_close(
            torch.autograd.grad(cast.encode(full), full, expected)[0], gradient
        )


@pytest.mark.parametrize("offset", [0, 1, 2])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_views_at_any_offset(offset: int, levels: int):
    """Copies move several numbers at once where memory allows; the result must not depend on it."""
    tokenizer = WaveletTokenizer(2, levels, [True, True], None)
    store = fields(2 * 16 * 24 + 2, dtype=torch.float32)
    x = store[offset : offset + 2 * 16 * 24].view(1, 2, 16, 24)
    expected = torch.nn.functional.pixel_unshuffle(x, 2**levels)
    assert torch.equal(tokenizer.encode(x).flatten(1, 2), expected)
    strided = store[: 2 * 16 * 24].view(1, 2, 24, 16).mT
    expected = torch.nn.functional.pixel_unshuffle(strided, 2**levels)
    assert torch.equal(tokenizer.encode(strided).flatten(1, 2), expected)
    assert torch.equal(tokenizer.decode(tokenizer.encode(strided)), strided)


@pytest.mark.parametrize("wavelet", ["haar", "bior2.2", None])
def test_gradcheck(wavelet: str | None):
    tokenizer = WaveletTokenizer(2, 2, [True, False], wavelet)

    def quadratic(x: Tensor) -> Tensor:
        return tokenizer.decode(tokenizer.encode(x).square())

    x = fields(1, 1, 4, 8).requires_grad_()
    assert torch.autograd.gradcheck(quadratic, (x,))
    assert torch.autograd.gradgradcheck(quadratic, (x,))


@pytest.mark.parametrize("wavelet", ["haar", "bior2.2"])
def test_compiles_as_one_graph(wavelet: str):
    tokenizer = WaveletTokenizer(2, 2, [True, False], wavelet)

    def step(x: Tensor) -> Tensor:
        return tokenizer.decode(tokenizer.encode(x).square()).sum()

    torch._dynamo.reset()
    compiled = torch.compile(
        step, fullgraph=True, backend="aot_eager" if wavelet == "haar" else "eager"
    )
    x = fields(2, 3, 8, 12).requires_grad_()
    ours, theirs = compiled(x), step(x)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x))


def test_named_errors():
    tokenizer = WaveletTokenizer(2, 2, [True, False])
    with pytest.raises(
        WavelitError, match=r"axis 0 has 6 points.*2\*\*levels = 4; lower levels or resample"
    ):
        tokenizer.encode(fields(1, 1, 6, 8))
    with pytest.raises(WavelitError, match=r"axis 1 has 7 points.*pad it and crop"):
        tokenizer.encode(fields(1, 1, 8, 7))
    with pytest.raises(WavelitError, match=r"fields .B, C, .S. with 2 axes"):
        tokenizer.encode(fields(1, 8, 8))
    with pytest.raises(WavelitError, match=r"coefficients .B, C, 16"):
        tokenizer.decode(fields(1, 1, 4, 2, 2))
    with pytest.raises(WavelitError, match=r"tokens .B, .S., C . 16"):
        tokenizer.decode_tokens(fields(1, 2, 2, 17))
    with pytest.raises(WavelitError, match="one `periodic` flag each"):
        WaveletTokenizer(2, 2, [True])
    with pytest.raises(WavelitError, match="levels must be at least 1"):
        WaveletTokenizer(1, 0, [True])
    with pytest.raises(WavelitError, match="unknown wavelet 'morlet'"):
        WaveletTokenizer(1, 1, [True], "morlet")
    with pytest.raises(WavelitError, match="db2 is not symmetric"):
        WaveletTokenizer(1, 1, [False], "db2")
