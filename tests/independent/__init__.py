"""A decoder written from the pages under docs/ alone, without a line of the package: it tests the pages.

Plain Python, slow. NumPy only where sums of matrices or binary32 need it. Each module names the page that it follows.
"""
