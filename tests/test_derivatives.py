"""Transforms of torch.func, forward-mode and second derivatives of models and transforms; batches
of nothing.
"""

import copy

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, stack_module_state, vjp, vmap

from wavelit import WaveLiT, WaveLiTConfig
from wavelit.ops.derivatives import are_plain, plain_operations
from wavelit.wavelets.transform import dwt, idwt

PERIODIC, WALLS = ("periodic", "periodic"), ("wall", "open")
# Convolutions, corrections and walls; attention and all scales; odd axes.
MODELS = {
    "nano": ((28, 16), (WALLS, PERIODIC), {}),
    "nano-0.1": ((18,), (PERIODIC,), {"levels": 1}),
    "paper": ((32, 32), (PERIODIC, WALLS), {"depth": 2}),
}


def double(preset, seed=0):
    """A small model whose parts all write something."""
    torch.manual_seed(seed)
    shape, sides, changes = MODELS[preset]
    config = WaveLiTConfig.preset(
        preset,
        n_fields=2,
        spatial=len(shape),
        n_steps_input=2,
        boundary_conditions=sides,
        n_scalars=1,
        condition=True,
        embed_dim=8,
        num_heads=2,
        **changes,
    )
    model = WaveLiT(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model.double()


@pytest.fixture(params=list(MODELS), name="case")
def model_and_inputs(request):
    model = double(request.param)
    torch.manual_seed(1)
    fields = torch.randn(3, 2, 2, *MODELS[request.param][0], dtype=torch.float64)
    return request.param, model, fields, torch.rand(3, 1, dtype=torch.float64)


def test_plain_operations_give_the_same(case):
    _, model, fields, scalars = case
    results = []
    for context in (torch.enable_grad, plain_operations):
        with context():
            following = model(fields, None, scalars)
            slopes = torch.autograd.grad(following.square().sum(), list(model.parameters()))
        results.append((following, *slopes))
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-10)
    assert not are_plain()


def test_tangents_are_those_of_differences(case):
    _, model, fields, scalars = case
    step = 1e-5 * torch.randn_like(fields)
    following, tangent = jvp(lambda u: model(u, None, scalars), (fields,), (step,))
    with torch.no_grad():
        torch.testing.assert_close(following, model(fields, None, scalars))
        ahead, behind = (model(u, None, scalars) for u in (fields + step, fields - step))
    torch.testing.assert_close(tangent, (ahead - behind) / 2, rtol=1e-6, atol=1e-11)
    with forward_ad.dual_level():
        dual = model(forward_ad.make_dual(fields, step), None, scalars)
        torch.testing.assert_close(forward_ad.unpack_dual(dual).tangent, tangent)
    # <J v, w> = <v, J^T w>
    _, pull = vjp(lambda u: model(u, None, scalars), fields)
    weight = torch.randn_like(following)
    there, back = (tangent * weight).sum(), (step * pull(weight)[0]).sum()
    torch.testing.assert_close(there, back, rtol=1e-9, atol=1e-12)


def test_an_ensemble_steps_at_once(case):
    preset, model, fields, scalars = case
    members = [model, double(preset, 2)]
    weights, buffers = stack_module_state(members)
    base = copy.deepcopy(model).to("meta")
    with torch.no_grad():
        together = vmap(
            lambda w, b: functional_call(base, (w, b), (fields, None, scalars)), randomness="error"
        )(weights, buffers)
        apart = torch.stack([member(fields, None, scalars) for member in members])
    torch.testing.assert_close(together, apart)


def test_gradients_of_single_samples_add_up(case):
    _, model, fields, scalars = case
    weights = dict(model.named_parameters())

    def loss(w, u, s):
        return functional_call(model, w, (u[None], None, s[None])).square().sum()

    each = vmap(grad(loss), (None, 0, 0))(weights, fields, scalars)
    whole = torch.autograd.grad(loss_of(model, fields, scalars), list(weights.values()))
    for name, total in zip(weights, whole, strict=True):
        torch.testing.assert_close(each[name].sum(0), total, rtol=1e-8, atol=1e-9)


def loss_of(model, fields, scalars):
    return model(fields, None, scalars).square().sum()


def test_second_derivatives_are_those_of_differences(case):
    _, model, fields, scalars = case
    step = 1e-5 * torch.randn_like(fields)

    def slope(u):
        with plain_operations():
            u = u.clone().requires_grad_()
            return u, torch.autograd.grad(loss_of(model, u, scalars), u, create_graph=True)[0]

    u, here = slope(fields)
    weight = torch.randn_like(here)
    (curve,) = torch.autograd.grad((here * weight).sum(), u)
    ahead, behind = (slope(v)[1].detach() for v in (fields + step, fields - step))
    due = ((ahead - behind) / 2 * weight).sum()
    torch.testing.assert_close((curve * step).sum(), due, rtol=1e-6, atol=1e-10)


@pytest.mark.parametrize(
    ("wavelet", "n", "wraps"),
    [("haar", 32, True), ("haar", 17, False), ("db2", 32, True), ("bior4.4", 17, False)],
)
def test_transforms_of_wavelets_can_be_differentiated(wavelet, n, wraps):
    x = torch.randn(2, 1, n, dtype=torch.float64)

    def back_and_forth(u):
        return idwt(dwt(u, wavelet, 2, (wraps,)), wavelet, (wraps,))

    _, tangent = jvp(back_and_forth, (x,), (torch.ones_like(x),))
    torch.testing.assert_close(tangent, torch.ones_like(x))
    torch.testing.assert_close(vmap(back_and_forth)(x[None])[0], x)


def test_of_no_samples_there_are_no_predictions(case):
    _, model, fields, scalars = case
    following = model(fields[:0], None, scalars[:0])
    assert following.shape == (0, 2, *fields.shape[3:])
    following.sum().backward()
