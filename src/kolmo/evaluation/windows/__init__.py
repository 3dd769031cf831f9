"""How texts become windows of tokens, and these become batches."""
