"""A call for each function of SciPy that says it takes arrays of the standard (`xp_capabilities`), by namespace.

A call is the arguments and the keywords; NumPy arrays among them become arrays of the library that is tried.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Call = tuple[tuple[Any, ...], dict[str, Any]]

_rng = np.random.default_rng(0)
REAL = _rng.standard_normal((6, 16))
ROW = _rng.standard_normal(40)
OTHER = ROW[::-1].copy() * 1.1 + 0.1
COMPLEX = REAL + 1j * REAL[::-1]
UNIT = np.linspace(0.05, 0.95, 11)
POSITIVE = np.linspace(0.3, 6.0, 12)
ANY = np.linspace(-2.5, 2.5, 11)
COUNTS = np.arange(1.0, 7.0)
IMAGE = _rng.standard_normal((9, 11))
MASK = IMAGE > 0.2
LABELS = np.repeat(np.arange(1, 4), 33).reshape(9, 11)
INDEX = np.asarray([1, 2, 3])


def call(*arguments: Any, **named: Any) -> Call:
    """What a function is called with."""
    return arguments, named


def words(text: str) -> list[str]:
    """Names in a row."""
    return text.split()


# ---- scipy.fft

FFT: dict[str, Call] = {
    **dict.fromkeys(words("fft ifft fft2 ifft2 fftn ifftn"), call(COMPLEX)),
    **dict.fromkeys(words("rfft rfft2 rfftn ihfft ihfft2 ihfftn"), call(REAL)),
    **dict.fromkeys(words("irfft irfft2 irfftn hfft hfft2 hfftn"), call(COMPLEX)),
    **dict.fromkeys(words("dct dst idct idst dctn dstn idctn idstn"), call(REAL)),
    **dict.fromkeys(("fftshift", "ifftshift"), call(REAL)),
    **dict.fromkeys(("fht", "ifht"), call(REAL, 0.1, 0.5)),
    **dict.fromkeys(("fftfreq", "rfftfreq"), call(8, 0.5, xp=np)),
}

# ---- scipy.signal

B, A = np.asarray([0.2, 0.3, 0.1]), np.asarray([1.0, -0.4, 0.2])
SOS = np.asarray([[0.2, 0.3, 0.1, 1.0, -0.4, 0.2], [1.0, 0.5, 0.0, 1.0, 0.1, 0.0]])
ZEROS, POLES = np.asarray([-1.0, 0.3]), np.asarray([0.5, -0.2])
TAPS = np.asarray([0.1, 0.2, 0.4, 0.2, 0.1])
W = np.linspace(0.1, 3.0, 9)
KERNEL = _rng.standard_normal((3, 3))

SIGNAL: dict[str, Call] = {
    **dict.fromkeys(("convolve", "correlate", "fftconvolve", "oaconvolve"), call(ROW, TAPS)),
    **dict.fromkeys(("convolve2d", "correlate2d"), call(IMAGE, KERNEL)),
    "choose_conv_method": call(ROW, TAPS),
    "deconvolve": call(ROW, TAPS),
    "lfilter": call(B, A, ROW),
    "filtfilt": call(B, A, ROW),
    "sosfilt": call(SOS, ROW),
    "sosfiltfilt": call(SOS, ROW),
    "lfilter_zi": call(B, A),
    "lfiltic": call(B, A, np.asarray([0.1, 0.2]), np.asarray([0.3, 0.1])),
    "sosfilt_zi": call(SOS),
    "detrend": call(ROW),
    "hilbert": call(ROW),
    "hilbert2": call(IMAGE),
    "envelope": call(ROW, (2, None)),
    "medfilt": call(ROW, 3),
    "medfilt2d": call(IMAGE, 3),
    "order_filter": call(IMAGE, np.ones((3, 3)), 4),
    "wiener": call(IMAGE),
    "resample": call(ROW, 17),
    "resample_poly": call(ROW, 3, 2),
    "upfirdn": call(TAPS, ROW, 3, 2),
    "savgol_filter": call(ROW, 7, 2),
    "savgol_coeffs": call(7, 2, xp=np),
    "vectorstrength": call(np.arange(5.0), 2.0),
    "cspline1d": call(ROW),
    "qspline1d": call(ROW),
    "cspline1d_eval": call(ROW, np.linspace(1, 30, 9)),
    "qspline1d_eval": call(ROW, np.linspace(1, 30, 9)),
    "cspline2d": call(_rng.standard_normal((40, 40)), 0.0),
    "spline_filter": call(_rng.standard_normal((60, 60))),
    "gauss_spline": call(ANY, 3),
    "freqs": call(B, A, W),
    "freqs_zpk": call(ZEROS, POLES, 1.0, W),
    "freqz": call(B, A, W),
    "freqz_zpk": call(ZEROS, POLES, 1.0, W),
    **dict.fromkeys(("freqz_sos", "sosfreqz"), call(SOS, W)),
    "group_delay": call((B, A), W),
    "bode": call((B, A), W),
    "impulse": call((B, A), T=np.linspace(0, 3, 9)),
    "firls": call(9, np.asarray([0.0, 0.3, 0.5, 1.0]), np.asarray([1.0, 1.0, 0.0, 0.0])),
    "firwin": call(9, np.asarray([0.2, 0.4])),
    "firwin2": call(9, np.asarray([0.0, 0.5, 1.0]), np.asarray([1.0, 1.0, 0.0])),
    "remez": call(9, np.asarray([0.0, 0.1, 0.2, 0.5]), np.asarray([1.0, 0.0])),
    "minimum_phase": call(np.convolve(TAPS, TAPS)),
    "get_window": call("hann", 9, xp=np),
    "butter": call(3, np.asarray([0.2, 0.4]), "bandpass"),
    "bessel": call(3, np.asarray([0.2, 0.4]), "bandpass"),
    "cheby1": call(3, 1, np.asarray([0.2, 0.4]), "bandpass"),
    "cheby2": call(3, 20, np.asarray([0.2, 0.4]), "bandpass"),
    "ellip": call(3, 1, 20, np.asarray([0.2, 0.4]), "bandpass"),
    "iirfilter": call(3, np.asarray([0.2, 0.4])),
    "iirdesign": call(np.asarray([0.2, 0.4]), np.asarray([0.1, 0.5]), 1, 20),
    **dict.fromkeys(
        ("buttord", "cheb1ord", "cheb2ord", "ellipord"), call(np.asarray([0.2, 0.4]), np.asarray([0.1, 0.5]), 1, 20)
    ),
    **dict.fromkeys(("iirnotch", "iirpeak"), call(0.3, 10.0, xp=np)),
    "iircomb": call(0.25, 10.0, xp=np),
    "gammatone": call(0.2, "iir", xp=np),
    **dict.fromkeys(("besselap", "buttap"), call(3, xp=np)),
    "cheb1ap": call(3, 1, xp=np),
    "cheb2ap": call(3, 20, xp=np),
    "ellipap": call(3, 1, 20, xp=np),
    "normalize": call(B, A),
    "bilinear": call(B, A),
    "bilinear_zpk": call(ZEROS, POLES, 1.0, 2.0),
    **dict.fromkeys(("lp2lp", "lp2hp"), call(B, A, 1.5)),
    **dict.fromkeys(("lp2bp", "lp2bs"), call(B, A, 1.5, 0.5)),
    **dict.fromkeys(("lp2lp_zpk", "lp2hp_zpk"), call(ZEROS, POLES, 1.0, 1.5)),
    **dict.fromkeys(("lp2bp_zpk", "lp2bs_zpk"), call(ZEROS, POLES, 1.0, 1.5, 0.5)),
    **dict.fromkeys(("sos2tf", "sos2zpk"), call(SOS)),
    **dict.fromkeys(("tf2sos", "tf2zpk"), call(B, A)),
    **dict.fromkeys(("zpk2sos", "zpk2tf"), call(ZEROS, POLES, 1.0)),
    "abcd_normalize": call(np.eye(2), np.ones((2, 1)), np.ones((1, 2)), np.ones((1, 1))),
    "place_poles": call(np.asarray([[0.0, 1.0], [-1.0, -1.0]]), np.asarray([[0.0], [1.0]]), np.asarray([-1.0, -2.0])),
}

# ---- scipy.special

_UNARY = words(
    "cbrt cosdg cosm1 cotdg digamma ellipk ellipkm1 entr erf erfc erfcx exp1 exp10 exp2 expi expit expn exprel "
    "gamma gammaln gammasgn i0 i0e i1 i1e j0 j1 k0 k0e k1 k1e log_ndtr loggamma ndtr psi rgamma sinc sindg spence "
    "tandg y0 y1 zetac log_softmax softmax logsumexp"
)
_ON_UNIT = words("erfinv ellipk ellipkm1 logit ndtri")

SPECIAL: dict[str, Call] = {
    **dict.fromkeys(_UNARY, call(POSITIVE)),
    **dict.fromkeys(_ON_UNIT, call(UNIT)),
    "bdtr": call(2.0, np.asarray([5, 6]), np.asarray([0.3, 0.4])),
    "bdtrc": call(2.0, np.asarray([5, 6]), np.asarray([0.3, 0.4])),
    "bdtri": call(2.0, np.asarray([5, 6]), np.asarray([0.3, 0.4])),
    **dict.fromkeys(("betainc", "betaincc", "betaincinv"), call(POSITIVE[:11], POSITIVE[1:], UNIT)),
    **dict.fromkeys(
        words(
            "betaln binom poch huber pseudo_huber xlogy xlog1py kl_div rel_entr chdtr chdtrc pdtr pdtrc "
            "gammainc gammaincc"
        ),
        call(POSITIVE, POSITIVE[::-1].copy()),
    ),
    **dict.fromkeys(("chdtri", "gammaincinv", "gammainccinv"), call(POSITIVE[:11], UNIT)),
    "pdtri": call(np.asarray([1, 2, 3]), np.asarray([0.2, 0.4, 0.5])),
    "stdtr": call(POSITIVE, POSITIVE[::-1].copy()),
    "stdtrit": call(POSITIVE[:11], UNIT),
    **dict.fromkeys(("fdtr", "fdtrc"), call(POSITIVE, POSITIVE + 1, POSITIVE[::-1].copy())),
    "fdtri": call(POSITIVE[:11], POSITIVE[1:], UNIT),
    **dict.fromkeys(("gdtr", "gdtrc"), call(POSITIVE, POSITIVE + 1, POSITIVE[::-1].copy())),
    **dict.fromkeys(("nbdtr", "nbdtrc"), call(np.asarray([1, 2]), np.asarray([3, 4]), np.asarray([0.2, 0.5]))),
    "nbdtri": call(np.asarray([1, 2]), np.asarray([3, 4]), np.asarray([0.2, 0.5])),
    **dict.fromkeys(("boxcox", "boxcox1p", "inv_boxcox", "inv_boxcox1p"), call(POSITIVE, np.asarray(0.3))),
    "expn": call(np.asarray([1, 2, 3]), np.asarray([0.2, 0.4, 0.5])),
    "hyp1f1": call(POSITIVE, POSITIVE + 1, POSITIVE[::-1].copy()),
    "lpmv": call(np.asarray([0, 1]), np.asarray([1, 2]), np.asarray([0.3, 0.4])),
    "multigammaln": call(POSITIVE + 3, 2),
    "polygamma": call(np.asarray([1, 2, 3]), np.asarray([0.2, 0.4, 0.5])),
    "radian": call(POSITIVE, POSITIVE, POSITIVE),
    "yn": call(np.asarray([1, 2]), np.asarray([0.3, 0.4])),
    "zeta": call(POSITIVE + 1, POSITIVE),
}

# ---- scipy.stats

GROUPS = (ROW[:14], ROW[14:27] + 0.2, ROW[27:] * 1.3)
CATEGORIES = np.asarray([1, 2, 2, 3, 3, 3, 4, 4, 5, 1])

STATS: dict[str, Call] = {
    **dict.fromkeys(
        words(
            "circmean circstd circvar describe differential_entropy iqr jarque_bera kstat kstatvar kurtosis "
            "kurtosistest lmoment median_abs_deviation normaltest rankdata sem sigmaclip skew skewtest tmax "
            "tmean tmin tsem tstd tvar variation zscore"
        ),
        call(ROW),
    ),
    "moment": call(ROW, 3),
    **dict.fromkeys(("gmean", "hmean", "gstd", "gzscore", "entropy"), call(np.abs(ROW) + 1)),
    "pmean": call(np.abs(ROW) + 1, 2),
    "trim_mean": call(ROW, 0.1),
    "mode": call(CATEGORIES),
    "quantile": call(ROW, np.asarray([0.1, 0.5, 0.9])),
    "zmap": call(ROW, OTHER),
    **dict.fromkeys(("boxcox_llf", "yeojohnson_llf"), call(0.5, np.abs(ROW) + 1)),
    "directional_stats": call(_rng.standard_normal((8, 3))),
    "false_discovery_control": call(UNIT),
    "combine_pvalues": call(UNIT),
    **dict.fromkeys(
        words("ansari mood brunnermunzel cramervonmises_2samp epps_singleton_2samp mannwhitneyu ttest_ind"),
        call(GROUPS[0], GROUPS[1]),
    ),
    **dict.fromkeys(("chatterjeexi", "pearsonr", "spearmanrho", "ttest_rel", "wilcoxon"), call(ROW, OTHER)),
    **dict.fromkeys(words("alexandergovern bartlett f_oneway fligner kruskal levene"), call(*GROUPS)),
    "friedmanchisquare": call(ROW[:12], ROW[12:24], ROW[24:36]),
    "ttest_1samp": call(ROW, 0.1),
    "ttest_ind_from_stats": call(
        np.asarray([1.0, 2.0]),
        np.asarray([0.5, 0.4]),
        np.asarray([10.0, 12.0]),
        np.asarray([1.1, 2.2]),
        np.asarray([0.6, 0.5]),
        np.asarray([11.0, 13.0]),
    ),
    "chisquare": call(np.asarray([16.0, 18, 16, 14, 12, 12]), np.asarray([16.0, 16, 16, 16, 16, 8])),
    "power_divergence": call(np.asarray([16.0, 18, 16, 14, 12, 12]), lambda_=0.5),
    "cramervonmises": call(UNIT, lambda x: x),
    "ks_1samp": call(UNIT, lambda x: x),
    "bootstrap": call(
        (ROW,), lambda x, axis: _mean(x, axis), n_resamples=50, rng=np.random.default_rng(3), method="percentile"
    ),
    "permutation_test": call(
        (GROUPS[0], GROUPS[1]),
        lambda x, y, axis: _mean(x, axis) - _mean(y, axis),
        n_resamples=50,
        rng=np.random.default_rng(3),
    ),
    "monte_carlo_test": call(ROW, lambda size: _normal(size), lambda x, axis: _mean(x, axis), n_resamples=50),
    "power": call(
        lambda x, axis: 0.5 + 0 * _mean(x, axis),
        lambda size: _normal(size),
        np.asarray([8]),
        significance=UNIT,
        n_resamples=20,
    ),
}


def _mean(x: Any, axis: int) -> Any:
    return x.__array_namespace__().mean(x, axis=axis)


LIBRARY: list[Any] = [np]
"""Of whose arrays functions that draw numbers are to make some."""


def _normal(size: Any) -> Any:
    """The same draws each time."""
    return LIBRARY[0].asarray(np.random.default_rng(5).standard_normal(size))


# ---- scipy.ndimage

_WITH_LABELS = words(
    "center_of_mass extrema maximum maximum_position mean median minimum minimum_position standard_deviation sum "
    "sum_labels variance"
)

NDIMAGE: dict[str, Call] = {
    **dict.fromkeys(
        ("gaussian_laplace", "gaussian_gradient_magnitude", "gaussian_filter", "gaussian_filter1d"), call(IMAGE, 1.2)
    ),
    **dict.fromkeys(words("laplace prewitt sobel spline_filter spline_filter1d uniform_filter"), call(IMAGE)),
    **dict.fromkeys(
        words("maximum_filter minimum_filter median_filter maximum_filter1d minimum_filter1d uniform_filter1d"),
        call(IMAGE, 3),
    ),
    **dict.fromkeys(("percentile_filter", "rank_filter"), call(IMAGE, 2, 3)),
    **dict.fromkeys(
        words(
            "grey_closing grey_dilation grey_erosion grey_opening morphological_gradient "
            "morphological_laplace black_tophat white_tophat"
        ),
        call(IMAGE, (3, 3)),
    ),
    **dict.fromkeys(
        words("binary_closing binary_dilation binary_erosion binary_fill_holes binary_hit_or_miss binary_opening"),
        call(MASK),
    ),
    "binary_propagation": call(np.eye(9, 11) > 0, mask=MASK),
    **dict.fromkeys(("distance_transform_bf", "distance_transform_cdt", "distance_transform_edt"), call(MASK)),
    **dict.fromkeys(("convolve", "correlate"), call(IMAGE, KERNEL)),
    **dict.fromkeys(("convolve1d", "correlate1d"), call(IMAGE, TAPS)),
    **dict.fromkeys(_WITH_LABELS, call(IMAGE, LABELS, INDEX)),
    "histogram": call(IMAGE, -2, 2, 4, LABELS, 2),
    "label": call(MASK),
    "find_objects": call(LABELS),
    "value_indices": call(LABELS),
    "labeled_comprehension": call(IMAGE, LABELS, INDEX, lambda x: x.sum(), float, 0.0),
    "iterate_structure": call(np.ones((3, 3)) > 0, 2),
    "affine_transform": call(IMAGE, np.asarray([[0.9, 0.1], [-0.1, 1.1]])),
    "map_coordinates": call(IMAGE, np.stack([ROW[:8] + 4, ROW[8:16] + 5])),
    "geometric_transform": call(IMAGE, lambda place: (place[0] * 0.9, place[1] * 0.8)),
    "rotate": call(IMAGE, 30.0),
    "shift": call(IMAGE, 1.3),
    "zoom": call(IMAGE, 1.5),
    **dict.fromkeys(("fourier_ellipsoid", "fourier_gaussian", "fourier_shift", "fourier_uniform"), call(IMAGE, 1.3)),
    "generic_filter": call(IMAGE, lambda x: x.sum(), 3),
    "generic_filter1d": call(IMAGE, lambda x, y: y.__setitem__(..., x[1:-1]), 3),
    "generic_gradient_magnitude": call(IMAGE, lambda x, axis, output, mode, cval: x * 1.0),
    "generic_laplace": call(IMAGE, lambda x, axis, output, mode, cval: x * 1.0),
    "vectorized_filter": call(IMAGE, lambda x, axis: _mean(x, axis), size=3),
    "watershed_ift": call((np.abs(IMAGE) * 50).astype(np.uint8), (LABELS * (IMAGE > 0.9)).astype(np.int16)),
}

# ---- scipy.cluster

POINTS = np.concatenate([_rng.standard_normal((8, 3)) + 4 * step for step in range(3)])
DISTANCES = np.sqrt(((POINTS[:, None] - POINTS[None]) ** 2).sum(-1))[np.triu_indices(24, 1)]


def hierarchy() -> dict[str, Call]:
    """Calls that need a tree of SciPy's own making."""
    from scipy.cluster.hierarchy import fcluster, inconsistent, linkage

    tree = linkage(DISTANCES, "average")
    flat = fcluster(tree, 3, "maxclust")
    matlab = tree[:, :3] + np.asarray([1.0, 1.0, 0.0])
    return {
        **dict.fromkeys(words("average centroid complete median single ward weighted linkage"), call(DISTANCES)),
        **dict.fromkeys(
            words(
                "cophenet inconsistent is_monotonic is_valid_linkage leaves_list maxdists num_obs_linkage "
                "to_mlab_linkage"
            ),
            call(tree),
        ),
        "dendrogram": call(tree, no_plot=True),
        "to_tree": call(tree),
        "correspond": call(tree, DISTANCES),
        "fcluster": call(tree, 3, "maxclust"),
        "fclusterdata": call(POINTS, 3, "maxclust"),
        "from_mlab_linkage": call(matlab),
        "is_isomorphic": call(flat, flat[::1]),
        "is_valid_im": call(inconsistent(tree)),
        "leaders": call(tree, flat),
        "maxRstat": call(tree, inconsistent(tree), 1),
        "maxinconsts": call(tree, inconsistent(tree)),
        "optimal_leaf_ordering": call(tree, DISTANCES),
    }


VQ: dict[str, Call] = {
    "whiten": call(POINTS),
    "vq": call(POINTS, POINTS[::8].copy()),
    "kmeans": call(POINTS, POINTS[::8].copy(), rng=np.random.default_rng(1)),
    "kmeans2": call(POINTS, POINTS[::8].copy(), minit="matrix", rng=np.random.default_rng(1)),
}


UNORDERED = ("scipy.signal.sos2zpk", "scipy.signal.tf2zpk")
"""Functions whose results are roots, in whatever order."""


def namespaces() -> Iterator[tuple[str, dict[str, Call]]]:
    """The namespaces and the calls of their functions."""
    yield "scipy.fft", FFT
    yield "scipy.signal", SIGNAL
    yield "scipy.special", SPECIAL
    yield "scipy.stats", STATS
    yield "scipy.ndimage", NDIMAGE
    yield "scipy.cluster.vq", VQ
    yield "scipy.cluster.hierarchy", hierarchy()
