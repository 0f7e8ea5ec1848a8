"""Attention of short texts, forward and backward, is torch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import scaled_dot_product_attention

from monoglot.learning import attention

HEADS, WIDTH, SCALE = 3, 4, 0.4


def drawn(*shape, seed):
    made = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return made.requires_grad_()


def gradients_of(taken, inputs):
    """Of something that differs for each component of the output."""
    weights = torch.arange(taken.numel(), dtype=torch.float64).view(taken.shape).cos()
    return torch.autograd.grad((taken * weights.to(taken.dtype)).sum(), inputs)


def assert_same(found, expected, inputs):
    assert torch.allclose(found, expected, atol=1e-5)
    both = (gradients_of(taken, inputs) for taken in (found, expected))
    for its, other in zip(*both, strict=True):
        assert torch.allclose(its, other, atol=1e-4)


@given(
    count=st.integers(1, 5),
    length=st.integers(1, 20),
    masked=st.booleans(),
    seed=st.integers(0, 99),
)
def test_texts_of_one_length(count, length, masked, seed):
    inputs = [drawn(count, HEADS, length, WIDTH, seed=seed + it).detach() for it in range(3)]
    mask = None
    if masked:  # some keys of each text, and never none
        mask = torch.rand(count, 1, 1, length, generator=torch.Generator().manual_seed(seed)) < 0.6
        mask[..., 0] = True
    found = attention.attention(*inputs, mask)
    expected = scaled_dot_product_attention(*inputs, attn_mask=mask, scale=1.0)
    assert torch.allclose(found, expected, atol=1e-5)


def within(inputs, lengths, scale=SCALE):
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    return attention.attention_within(*inputs, ends, scale)


def by_torch(inputs, lengths, scale=SCALE):
    text = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    same_text = text[:, None] == text[None, :]
    found = scaled_dot_product_attention(*inputs, attn_mask=same_text, scale=scale)
    return found.transpose(1, 2)


@given(
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=12),
    longest=st.integers(1, 20),
    seed=st.integers(0, 99),
)
def test_texts_that_follow_one_another(lengths, longest, seed):
    inputs = [drawn(1, HEADS, sum(lengths), WIDTH, seed=seed + it) for it in range(3)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention, "LONGEST", longest)  # torch's own beyond it
        found = within(inputs, lengths)
    assert_same(found, by_torch(inputs, lengths), inputs)


def test_scores_beyond_what_an_exponential_holds():
    inputs = [200 * drawn(1, HEADS, 10, WIDTH, seed=it).detach() for it in range(3)]
    found = within(inputs, [4, 6], 1.0)
    assert found.isfinite().all()
    assert torch.allclose(found, by_torch(inputs, [4, 6], 1.0), atol=1e-4)
    alone = attention.attention(*inputs)
    assert torch.allclose(alone, scaled_dot_product_attention(*inputs, scale=1.0), atol=1e-4)


@given(
    lengths=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    spread=st.floats(0.5, 2.0),
    seed=st.integers(0, 99),
)
def test_bf16_is_near_fp32(lengths, spread, seed):
    made = [spread * drawn(1, HEADS, sum(lengths), 32, seed=seed + it).detach() for it in range(3)]
    rounded = [it.bfloat16().requires_grad_() for it in made]
    exact = [it.detach().float().requires_grad_() for it in rounded]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = within(rounded, lengths, 32**-0.5)
    expected = within(exact, lengths, 32**-0.5)
    for its, other in zip(
        (found, *gradients_of(found, rounded)),
        (expected, *gradients_of(expected, exact)),
        strict=True,
    ):
        assert (its.float() - other).norm() <= 0.02 * other.norm() + 1e-3


@pytest.mark.parametrize("kinds", [(0, 0, 1), (0, 0, 0), (1, 1, 0)])
def test_under_autocast_whatever_is_in_which_precision(kinds):
    made = [drawn(1, HEADS, 10, WIDTH, seed=it).float().detach() for it in range(3)]
    inputs = [
        (it.bfloat16() if half else it).requires_grad_()
        for it, half in zip(made, kinds, strict=True)
    ]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = within(inputs, [3, 7])
    assert all(it.isfinite().all() for it in gradients_of(found, inputs))
    # The precision is that of the values, whatever autocast would have it be.
    assert found.dtype == inputs[2].dtype
    expected = by_torch([it.detach().float() for it in inputs], [3, 7])
    assert torch.allclose(found.float(), expected, atol=0.05 if kinds[2] else 1e-5)


def test_what_is_not_finite_stays_in_its_text():
    inputs = [drawn(1, HEADS, 14, WIDTH, seed=it) for it in range(3)]
    with torch.no_grad():
        inputs[2][0, 0, 0, 0] = float("inf")
    found = within(inputs, [5, 4, 5])  # the second is padded
    assert not found[0, :5].isfinite().all()
    assert found[0, 5:].isfinite().all()


@pytest.mark.parametrize("shape", [(1, 1, 5, WIDTH), (1, HEADS, 5, 2 * WIDTH)])
def test_other_heads_and_widths_are_refused(shape):
    query, other = drawn(1, HEADS, 5, WIDTH, seed=0), drawn(*shape, seed=1)
    with pytest.raises(ValueError, match="other heads or widths"):
        within([query, other, other], [5])


def test_a_second_derivative_is_refused():
    inputs = [drawn(1, HEADS, 5, WIDTH, seed=it) for it in range(3)]
    found = within(inputs, [5])
    [first] = torch.autograd.grad(found.cos().sum(), inputs[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()
