"""The page of `kolmo explain`."""
