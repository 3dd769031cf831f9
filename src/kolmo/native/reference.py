"""The kernels in NumPy and Python: the specification of the C kernels, and the fallback where none was built."""

from __future__ import annotations

from kolmo.native.binary.views import binary_view
from kolmo.native.bitshift.feedback import bitshift_feedback_search
from kolmo.native.bitshift.reference import bitshift_search
from kolmo.native.bitshift_product.reference import bitshift_product, bitshift_rotate, bitshift_rows
from kolmo.native.coder.reference import BinaryDecoder, BinaryEncoder
from kolmo.native.deflate.reference import deflate
from kolmo.native.deflate.rows import join_rows, split_rows
from kolmo.native.mixer.reference import ContextMixer
from kolmo.native.network.reference import Network, NetworkLanes, network_stretch
from kolmo.native.neural.reference import NeuralMixer
from kolmo.native.pixel_mixer.reference import PixelMixer
from kolmo.native.pixels.network import PixelNetwork
from kolmo.native.quants.reference import quants_decode, quants_encode
from kolmo.native.residual.reference import residual_decode, residual_encode
from kolmo.native.samples.mixture import sample_log2, sample_masses, sample_split
from kolmo.native.samples.network import SampleNetwork
from kolmo.native.sounds.mixer import SoundMixer
from kolmo.native.tokens.reference import TokenDecoder, TokenEncoder, TokenMemory
from kolmo.native.tokens.tree import TokenTree
from kolmo.native.trellis.packing import trellis_pack, trellis_unpack
from kolmo.native.trellis.reference import trellis_count, trellis_decode, trellis_encode
from kolmo.native.trellis.search import trellis_quantise, trellis_resume

PATHS = ("reference",)

__all__ = [
    "PATHS",
    "BinaryDecoder",
    "BinaryEncoder",
    "ContextMixer",
    "Network",
    "NetworkLanes",
    "NeuralMixer",
    "PixelMixer",
    "PixelNetwork",
    "SampleNetwork",
    "SoundMixer",
    "TokenDecoder",
    "TokenEncoder",
    "TokenMemory",
    "TokenTree",
    "binary_view",
    "bitshift_feedback_search",
    "bitshift_product",
    "bitshift_rotate",
    "bitshift_rows",
    "bitshift_search",
    "deflate",
    "join_rows",
    "network_stretch",
    "quants_decode",
    "quants_encode",
    "residual_decode",
    "residual_encode",
    "sample_log2",
    "sample_masses",
    "sample_split",
    "split_rows",
    "trellis_count",
    "trellis_decode",
    "trellis_encode",
    "trellis_pack",
    "trellis_quantise",
    "trellis_resume",
    "trellis_unpack",
]
