"""Files that the tests read, and how they were made."""
