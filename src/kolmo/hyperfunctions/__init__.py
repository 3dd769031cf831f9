"""Hyperfunctions: matrices of weights as integers, and back.

base                 the protocol, and the hyperfunction of a name with its parameters
families             the options of each, as `kolmo.shrink` takes them
trellis, torus, bitshift    the hyperfunctions; trellis_payload and trellis_tables, torus_codebook, torus_series,
                     bitshift_payload are parts of them
"""

from kolmo.hyperfunctions.families import BitshiftOptions, TorusOptions, TrellisOptions

__all__ = ["BitshiftOptions", "TorusOptions", "TrellisOptions"]
