"""Wavelet transforms: equality with PyWavelets, inverse, adjoint, orthogonality, moments,
errors.
"""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from torch import Tensor

from wavelit.errors import WavelitError
from wavelit.wavelets import lifting
from wavelit.wavelets import transform as wavelets
from wavelit.wavelets.transform import WAVELETS, band_names, dwt, idwt

ORTHOGONAL = ("haar", "db2", "db3", "db4", "sym4")
WALL = ("haar", "bior2.2", "bior4.4")
# PyWavelets' sym4 and bior4.4 filters carry about twelve digits.
ROUNDING = {wavelet: 1e-11 if wavelet in ("sym4", "bior4.4") else 1e-12 for wavelet in WAVELETS}
SETTINGS = [
    *(
        (wavelet, periodic)
        for wavelet in WAVELETS
        for periodic in ((True,), (True, True), (True, True, True))
    ),
    *(
        (w, p)
        for w in WALL
        for p in ((False,), (True, False), (False, True), (False, False), (False, True, False))
    ),
]


def signal(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def flat(coefficients: list) -> list[Tensor]:
    return [coefficients[0], *(level[key] for level in coefficients[1:] for key in level)]


def vector(coefficients: list, spatial: int) -> Tensor:
    return torch.cat([band.flatten(-spatial) for band in flat(coefficients)], -1)


def like(coefficients: list) -> list[Tensor]:
    return [signal(*band.shape, seed=1 + i) for i, band in enumerate(flat(coefficients))]


def test_haar_of_one_two_three_four():
    approximation, coarse, fine = dwt(
        torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64), "haar", 2, [True]
    )
    torch.testing.assert_close(approximation, torch.tensor([5.0], dtype=torch.float64))
    torch.testing.assert_close(coarse["d"], torch.tensor([-2.0], dtype=torch.float64))
    torch.testing.assert_close(fine["d"], torch.full((2,), -(0.5**0.5), dtype=torch.float64))


def test_cdf53_of_an_impulse_on_a_wall():
    # Update 1/4 and predict 1/2 of the lifting scheme, times sqrt(2) and -1/sqrt(2); mirrored at
    # both ends.
    approximation, details = dwt(
        torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0], dtype=torch.float64), "bior2.2", 1, [False]
    )
    expected = 2**0.5 * torch.tensor([0.5, 0.25, 0.0], dtype=torch.float64)
    torch.testing.assert_close(approximation, expected)
    torch.testing.assert_close(details["d"], torch.tensor([-(0.5**0.5), 0.0], dtype=torch.float64))


@pytest.mark.filterwarnings("ignore:Level value")
@pytest.mark.parametrize("wavelet", WAVELETS)
@pytest.mark.parametrize(
    ("shape", "level"),
    [
        ((2,), 1),
        ((4,), 2),
        ((6,), 1),
        ((16,), 3),
        ((200,), 3),
        ((8, 136), 3),
        ((160, 4), 2),
        ((8, 4, 12), 2),
    ],
)
def test_periodic_equals_pywavelets(wavelet: str, shape: tuple[int, ...], level: int):
    x, spatial = signal(2, 3, *shape), len(shape)
    ours = dwt(x, wavelet, level, [True] * spatial)
    theirs = pywt.wavedecn(x.numpy(), wavelet, "periodization", level, axes=range(2, 2 + spatial))
    np.testing.assert_allclose(ours[0].numpy(), theirs[0], rtol=0, atol=1e-13)
    for details, reference in zip(ours[1:], theirs[1:], strict=True):
        assert list(details) == sorted(reference)
        for key in details:
            np.testing.assert_allclose(details[key].numpy(), reference[key], rtol=0, atol=1e-13)


@pytest.mark.parametrize("wavelet", WALL)
@pytest.mark.parametrize("n", [32, 33, 150, 151])
def test_interior_on_walls_equals_pywavelets(wavelet: str, n: int):
    x = signal(n)
    approximation, details = dwt(x, wavelet, 1, [False])
    assert (len(approximation), len(details["d"])) == ((n + 1) // 2, n // 2)
    length = pywt.Wavelet(wavelet).dec_len
    lead = (length // 2 - 1) // 2  # PyWavelets starts this many coefficients before the signal
    reach = slice(length // 2, n // 2 - length // 2)
    for ours, theirs in zip(
        (approximation, details["d"]), pywt.dwt(x.numpy(), wavelet, "symmetric"), strict=True
    ):
        np.testing.assert_allclose(ours[reach].numpy(), theirs[lead:][reach], rtol=0, atol=1e-13)


@pytest.mark.parametrize("wavelet", ["bior2.2", "bior4.4"])
@pytest.mark.parametrize("n", [2, 3, 5, 32, 33, 151])
def test_walls_mirror_the_signal(wavelet: str, n: int):
    """Whole-sample symmetry at both ends is periodization of the signal followed by its mirror
    image.
    """
    x = signal(n)
    approximation, details = dwt(x, wavelet, 1, [False])
    mirrored = torch.cat((x, x[1:-1].flip(0)))
    expected, expected_details = pywt.dwt(mirrored.numpy(), wavelet, "periodization")
    np.testing.assert_allclose(approximation.numpy(), expected[: (n + 1) // 2], rtol=0, atol=1e-13)
    np.testing.assert_allclose(details["d"].numpy(), expected_details[: n // 2], rtol=0, atol=1e-13)


@pytest.mark.parametrize(("wavelet", "periodic"), SETTINGS)
@pytest.mark.parametrize("short", [True, False])
def test_perfect_reconstruction(wavelet: str, periodic: tuple[bool, ...], short: bool):
    wraps, walls = ((4, 8, 4), (1, 3, 6)) if short else ((72, 20, 8), (71, 23, 9))
    shape = [
        a if periodic[i] else b
        for i, (a, b) in enumerate(zip(wraps, walls, strict=True))
        if i < len(periodic)
    ]
    for dtype, tolerance in ((torch.float64, ROUNDING[wavelet]), (torch.float32, 1e-6)):
        x = signal(2, *shape, dtype=dtype)
        y = idwt(dwt(x, wavelet, 2, periodic), wavelet, periodic)
        assert y.dtype == dtype
        assert (y - x).norm() <= tolerance * x.norm()


@pytest.mark.parametrize("wavelet", ["haar", "bior2.2"])
@pytest.mark.parametrize(
    "periodic",
    [
        (True,),
        (False,),
        (True, True),
        (True, False),
        (False, True),
        (False, False),
        (True, False, True),
    ],
)
@pytest.mark.parametrize("block", [1, 2**7, 2**17])
def test_lifting_equals_the_matrices(
    wavelet: str, periodic: tuple[bool, ...], block: int, monkeypatch: pytest.MonkeyPatch
):
    """Sub-bands, signal and both gradients, for blocks of one signal, of some with a remainder,
    and of all.
    """
    monkeypatch.setattr(lifting, "_BLOCK", block)
    x = signal(5, *(4, 12, 8)[: len(periodic)]).requires_grad_()
    results = []
    for lifts in (lifting.lifts, lambda *_: False):
        monkeypatch.setattr(wavelets, "lifts", lifts)
        coefficients = dwt(x, wavelet, 1 + (len(periodic) < 3), periodic)
        y = [band.detach().requires_grad_() for band in flat(coefficients)]
        keys = list(coefficients[1])
        levels = [
            dict(zip(keys, y[i : i + len(keys)], strict=True)) for i in range(1, len(y), len(keys))
        ]
        rebuilt = idwt([y[0], *levels], wavelet, periodic)
        cotangents = like(coefficients)
        results.append(
            [
                *y,
                rebuilt,
                *torch.autograd.grad(flat(coefficients), x, cotangents),
                *torch.autograd.grad(rebuilt, y, signal(*x.shape, seed=9)),
            ]
        )
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-13)


@pytest.mark.parametrize("wavelet", ORTHOGONAL)
@pytest.mark.parametrize(
    ("shape", "level"), [((2,), 1), ((4,), 2), ((80,), 3), ((4, 8), 2), ((4, 2, 4), 1)]
)
def test_orthogonal_matrix(wavelet: str, shape: tuple[int, ...], level: int):
    n = int(np.prod(shape))
    basis = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
    matrix = vector(dwt(basis, wavelet, level, [True] * len(shape)), len(shape)).T
    torch.testing.assert_close(
        matrix @ matrix.T, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-11
    )


@pytest.mark.parametrize("n", [1, 5, 71])
def test_odd_haar_is_orthogonal(n: int):
    matrix = vector(dwt(torch.eye(n, dtype=torch.float64), "haar", 2, [False]), 1)
    torch.testing.assert_close(
        matrix @ matrix.T, torch.eye(n, dtype=torch.float64), rtol=0, atol=1e-14
    )


@pytest.mark.parametrize(("wavelet", "periodic"), SETTINGS)
def test_adjoint(wavelet: str, periodic: tuple[bool, ...]):
    """<W x, y> = <x, W^T y> and <V y, x> = <y, V^T x>, with the transposes that backward
    applies.
    """
    shape = [8 if wraps else 7 for wraps in periodic]
    shape[0] = 72 if periodic[0] else 71
    x = signal(2, *shape).requires_grad_()
    coefficients = dwt(x, wavelet, 2, periodic)
    y = [band.requires_grad_() for band in like(coefficients)]
    (transposed,) = torch.autograd.grad(flat(coefficients), x, y)
    inner = sum((a * b).sum() for a, b in zip(flat(coefficients), y, strict=True))
    torch.testing.assert_close((x * transposed).sum(), inner)
    keys = list(coefficients[1])
    levels = [
        dict(zip(keys, y[i : i + len(keys)], strict=True)) for i in range(1, len(y), len(keys))
    ]
    rebuilt = idwt([y[0], *levels], wavelet, periodic)
    adjoint = torch.autograd.grad(rebuilt, y, x)
    torch.testing.assert_close(
        sum((a * b).sum() for a, b in zip(y, adjoint, strict=True)), (rebuilt * x).sum()
    )


@pytest.mark.parametrize(
    ("wavelet", "periodic"),
    [("haar", (True, False)), ("db2", (True, True)), ("bior2.2", (False, True))],
)
def test_gradcheck(wavelet: str, periodic: tuple[bool, ...]):
    x = signal(*(4 if wraps else 3 for wraps in periodic)).requires_grad_()

    def squares(x: Tensor) -> tuple[Tensor, ...]:
        bands = dwt(x, wavelet, 2, periodic)
        return (*flat(bands), idwt([bands[0].square(), *bands[1:]], wavelet, periodic))

    assert torch.autograd.gradcheck(squares, (x,))
    assert torch.autograd.gradgradcheck(squares, (x,))


@pytest.mark.parametrize(
    ("wavelet", "moments"), [("db3", 3), ("db4", 4), ("sym4", 4), ("bior2.2", 2), ("bior4.4", 4)]
)
def test_polynomials_have_no_interior_details(wavelet: str, moments: int):
    t = torch.linspace(-1, 1, 64, dtype=torch.float64)
    for degree in range(moments + 1):
        _, details = dwt(t**degree, wavelet, 1, [True])
        vanishes = bool(details["d"][4:-4].abs().max() < 1e-10)
        assert vanishes == (degree < moments)


@pytest.mark.parametrize("wavelet", WALL)
@pytest.mark.parametrize("shape", [(2, 3), (16, 21), (150, 8)])
def test_constants_have_no_detail_on_walls(wavelet: str, shape: tuple[int, int]):
    approximation, details = dwt(
        torch.full(shape, 3.0, dtype=torch.float64), wavelet, 1, [False, False]
    )
    assert all(band.abs().max() < 1e-11 for band in details.values())
    if wavelet != "haar":  # the unpaired last sample of an odd axis keeps its own scale
        torch.testing.assert_close(
            approximation, torch.full_like(approximation, 6.0), rtol=0, atol=1e-11
        )


@pytest.mark.parametrize(
    ("wavelet", "backend", "sizes"), [("haar", "eager", (8,)), ("bior4.4", "aot_eager", (8, 72))]
)
def test_compiles_as_one_graph_at_changing_sizes(
    wavelet: str, backend: str, sizes: tuple[int, ...]
):
    periodic = (True, False)

    def power(x: Tensor) -> Tensor:
        bands = dwt(x, wavelet, 2, periodic)
        return idwt([bands[0] ** 2, *bands[1:]], wavelet, periodic).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(power, fullgraph=True, backend=backend)
    for n in sizes:
        x = signal(2, n, n + 1).requires_grad_()
        ours, theirs = compiled(x), power(x)
        torch.testing.assert_close(ours, theirs)
        torch.testing.assert_close(torch.autograd.grad(ours, x), torch.autograd.grad(theirs, x))


@pytest.mark.parametrize("wavelet", ["haar", "bior2.2"])
def test_half_precision_and_autocast_compute_in_float32(wavelet: str):
    x = signal(2, 16, 15, dtype=torch.bfloat16)
    expected = dwt(x.float(), wavelet, 2, [True, False])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = dwt(x, wavelet, 2, [True, False])
        rebuilt = idwt(ours, wavelet, [True, False])
    for a, b in zip(flat(ours), flat(expected), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    torch.testing.assert_close(rebuilt, x.float())


def test_input_is_left_alone_and_may_be_strided():
    x = signal(3, 16, 8).transpose(1, 2)
    before = x.clone()
    for wavelet in WAVELETS:
        bands = dwt(x, wavelet, 1, [True, True])
        kept = [band.clone() for band in flat(bands)]
        torch.testing.assert_close(idwt(bands, wavelet, [True, True]), before)
        assert torch.equal(x, before)
        assert all(torch.equal(a, b) for a, b in zip(flat(bands), kept, strict=True))


def test_band_names():
    assert band_names(2, 2) == ("aa2", "ad2", "da2", "dd2", "ad1", "da1", "dd1")
    assert band_names(1, 1) == ("a1", "d1")
    assert len(band_names(3, 3)) == 1 + 3 * 7


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((signal(8), "db9", 1, [True]), "unknown wavelet 'db9'.*haar"),
        ((signal(8), "haar", 0, [True]), "level must be at least 1, got 0"),
        (
            (signal(3, 6, 8), "haar", 2, [True, True]),
            "periodic axis 0 has 6 points.*2\\*\\*level = 4",
        ),
        (
            (signal(8, 8), "db2", 1, [True, False]),
            "db2 is not symmetric.*use haar, bior2.2, bior4.4",
        ),
        ((signal(8), "haar", 1, []), "1, 2 or 3 axes, got 0"),
        ((signal(8), "haar", 1, [True, True]), "at least 2 dimensions"),
        ((torch.arange(8), "haar", 1, [True]), "floating-point.*int64"),
    ],
)
def test_named_errors(arguments: tuple, message: str):
    with pytest.raises(WavelitError, match=message):
        dwt(*arguments)


def test_foreign_coefficients_are_refused():
    approximation, details = dwt(signal(8, 8), "haar", 1, [True, True])
    with pytest.raises(WavelitError, match="expected the details ad, da, dd, got ad, dd"):
        idwt([approximation, {k: details[k] for k in ("ad", "dd")}], "haar", [True, True])
    with pytest.raises(WavelitError, match="sub-band ad of shape"):
        idwt([approximation, {**details, "ad": details["ad"][:, :3]}], "haar", [True, True])
