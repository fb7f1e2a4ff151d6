"""Signal processing on PerfXAPI's arrays, named and called as in scipy.signal.

Functions take perfxapi arrays on any device (and NumPy arrays, which become some) and return perfxapi arrays. Signals
are float32, float64, complex64 or complex128; integers become float64.
"""

from perfxapi_plugin_signal.convolution import convolve, correlate
from perfxapi_plugin_signal.design import firwin, kaiser_atten, kaiser_beta
from perfxapi_plugin_signal.filters import filtfilt, lfilter, lfilter_zi, sosfilt, sosfilt_zi, sosfiltfilt
from perfxapi_plugin_signal.resampling import decimate, resample, resample_poly, upfirdn
from perfxapi_plugin_signal.spectral import istft, spectrogram, stft
from perfxapi_plugin_signal.windows import get_window

__all__ = [
    "convolve",
    "correlate",
    "decimate",
    "filtfilt",
    "firwin",
    "get_window",
    "istft",
    "kaiser_atten",
    "kaiser_beta",
    "lfilter",
    "lfilter_zi",
    "resample",
    "resample_poly",
    "sosfilt",
    "sosfilt_zi",
    "sosfiltfilt",
    "spectrogram",
    "stft",
    "upfirdn",
]
