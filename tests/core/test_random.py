"""Random numbers: known answers of the bits, distributions by their statistics, and the same on all devices."""

import numpy as np
import pytest

import perfxapi as px
from perfxapi.errors import InvalidArgumentError, InvalidDTypeError

DEVICES = [str(device) for device in px.all_devices() if device.kind in ("cpu", "numpy")]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("key", "words"),
    [
        ((0, 0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((2**64 - 1, 2**64 - 1, 2**64 - 1), "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ((0x299F31D0A4093822, 0x0370734413198A2E, 0x85A308D3243F6A88), "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_the_bits_are_philox(device, key, words):
    """The known answers that the authors publish (Random123, kat_vectors: philox4x32 with 10 rounds)."""
    found = px.apply("random_bits", px.asarray(np.array(key, np.uint64), device=device), count=4)
    assert [f"{int(word):08x}" for word in np.asarray(found)] == words.split()


def draws(rng):
    return {
        "random": rng.random((3, 5), px.float32),
        "doubles": rng.random(7),
        "normal": rng.normal((4, 3), px.float32),
        "exponential": rng.exponential(2.0, 5),
        "integers": rng.integers(-5, 6, (2, 3)),
        "small": rng.integers(200, shape=9, dtype="uint8"),
        "permutation": rng.permutation(20),
        "choice": rng.choice(10, (2, 2), replace=False),
    }


def test_the_same_seed_draws_the_same_everywhere():
    first = draws(px.random.default_rng(5, device="numpy"))
    for device in DEVICES:
        for name, values in draws(px.random.default_rng(5, device=device)).items():
            assert str(values.device) == device
            np.testing.assert_allclose(np.asarray(values), np.asarray(first[name]), rtol=1e-6, atol=1e-7, err_msg=name)
    other = draws(px.random.default_rng(6, device="numpy"))
    assert not np.array_equal(np.asarray(other["doubles"]), np.asarray(first["doubles"]))


def test_drawing_goes_on_and_streams_differ():
    rng = px.random.Generator(1, device="numpy")
    parts = [np.asarray(rng.bits(4)) for _ in range(3)]
    np.testing.assert_array_equal(np.concatenate(parts), np.asarray(px.random.Generator(1, device="numpy").bits(12)))
    streams = [np.asarray(child.bits(100)) for child in px.random.Generator(1, device="numpy").spawn(3)]
    assert len({stream.tobytes() for stream in streams}) == 3
    parent = px.random.Generator(1, device="numpy")
    family = [parent, *parent.spawn(2), *parent.spawn(2)]
    family += [grandchild for child in family[1:3] for grandchild in child.spawn(2)]
    assert len({np.asarray(rng.bits(8)).tobytes() for rng in family}) == len(family) == 9
    assert not np.array_equal(
        np.asarray(px.random.default_rng(device="numpy").bits(4)),
        np.asarray(px.random.default_rng(device="numpy").bits(4)),
    )


COUNT = 400_000


def moments(values):
    wide = np.asarray(values, np.float64)
    return wide.mean(), wide.var()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_distributions(dtype):
    """Means and variances within five standard errors; the shape by a test of quantiles."""
    rng = px.random.Generator(3, device="numpy")
    cases = {
        "random": (rng.random(COUNT, dtype), 0.5, 1 / 12, lambda q: q),
        "uniform": (rng.uniform(-2, 4, COUNT, dtype), 1.0, 3.0, lambda q: 6 * q - 2),
        "exponential": (rng.exponential(2.0, COUNT, dtype), 2.0, 4.0, lambda q: -2 * np.log(1 - q)),
    }
    for name, (values, mean, variance, quantile) in cases.items():
        assert values.dtype is px.dtype_of(dtype)
        found = moments(values)
        assert abs(found[0] - mean) < 5 * np.sqrt(variance / COUNT), name
        assert abs(found[1] / variance - 1) < 0.02, name
        places = np.array([0.1, 0.5, 0.9])
        np.testing.assert_allclose(np.quantile(np.asarray(values), places), quantile(places), rtol=0.02, err_msg=name)
    normal = np.asarray(rng.normal(COUNT, dtype, loc=3.0, scale=2.0), np.float64)
    assert abs(normal.mean() - 3) < 5 * 2 / np.sqrt(COUNT)
    assert abs(normal.std() - 2) < 0.02
    standard = (normal - 3) / 2
    assert abs((standard**3).mean()) < 0.02
    assert abs((standard**4).mean() - 3) < 0.06
    assert abs(np.corrcoef(standard[: COUNT // 2], standard[COUNT // 2 :])[0, 1]) < 0.01
    assert np.isfinite(normal).all()


def test_uniform_numbers_lie_below_one():
    values = np.asarray(px.random.Generator(4, device="numpy").random(COUNT, px.float32))
    assert values.min() >= 0
    assert values.max() < 1


def test_integers():
    rng = px.random.Generator(2, device="numpy")
    drawn = np.asarray(rng.integers(-3, 4, COUNT))
    counts = np.bincount(drawn + 3, minlength=7)
    assert len(counts) == 7
    assert np.abs(counts / COUNT - 1 / 7).max() < 0.004
    assert np.asarray(rng.integers(-128, 128, 10000, "int8")).min() == -128
    wide = np.asarray(rng.integers(-(2**63), 2**63, 1000))
    assert wide.min() < -(2**62) < 2**62 < wide.max()
    assert np.asarray(rng.integers(2**64, shape=1000, dtype="uint64")).max() > 2**63


def test_permutations_and_choices():
    rng = px.random.Generator(2, device="numpy")
    order = np.asarray(rng.permutation(1000))
    assert sorted(order) == list(range(1000))
    assert not np.array_equal(order, np.arange(1000))
    rows = px.asarray(np.arange(20).reshape(10, 2), device="numpy")
    assert sorted(map(tuple, np.asarray(rng.permutation(rows)))) == [(2 * i, 2 * i + 1) for i in range(10)]
    assert sorted(np.asarray(rng.choice(5, 5, replace=False))) == list(range(5))
    assert rng.choice(rows, (2, 3)).shape == (2, 3, 2)
    assert rng.random().shape == ()
    assert rng.normal((0, 3)).shape == (0, 3)


def test_wrong_arguments():
    rng = px.random.Generator(2, device="numpy")
    for call in (
        lambda: px.random.Generator(-1),
        lambda: px.random.Generator(1 << 64),
        lambda: px.random.Generator("a"),
        lambda: rng.integers(5, 5),
        lambda: rng.integers(3.5),
        lambda: rng.permutation(px.asarray(1.0)),
        lambda: rng.integers(0, 300, dtype="uint8"),
        lambda: rng.normal(3, scale=-1.0),
        lambda: rng.choice(3, 4, replace=False),
        lambda: rng.random((2, -1)),
    ):
        with pytest.raises(InvalidArgumentError):
            call()
    for call in (
        lambda: rng.random(3, "int32"),
        lambda: rng.bits(3, "int32"),
        lambda: rng.integers(3, dtype="float32"),
    ):
        with pytest.raises(InvalidDTypeError):
            call()
