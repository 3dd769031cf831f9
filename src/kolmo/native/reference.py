"""The kernels in NumPy and Python: the specification of the C kernels, and the fallback where none was built."""

from __future__ import annotations

from kolmo.native.reference_coder import BinaryDecoder, BinaryEncoder
from kolmo.native.reference_context_mixing import ContextMixer
from kolmo.native.reference_network import Network, NetworkLanes, network_stretch
from kolmo.native.reference_neural import NeuralMixer
from kolmo.native.reference_residual import residual_decode, residual_encode
from kolmo.native.reference_tokens import TokenDecoder, TokenEncoder, TokenTree
from kolmo.native.reference_trellis import trellis_count, trellis_decode, trellis_encode, trellis_quantise

PATHS = ("reference",)

__all__ = [
    "PATHS",
    "BinaryDecoder",
    "BinaryEncoder",
    "ContextMixer",
    "Network",
    "NetworkLanes",
    "NeuralMixer",
    "TokenDecoder",
    "TokenEncoder",
    "TokenTree",
    "network_stretch",
    "residual_decode",
    "residual_encode",
    "trellis_count",
    "trellis_decode",
    "trellis_encode",
    "trellis_quantise",
]
