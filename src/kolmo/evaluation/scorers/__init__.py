"""Everything whose code lengths are compared, behind one protocol."""
