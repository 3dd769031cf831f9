"""Programs, records and values in binary data: views of their bytes, and contexts of the mixer."""
