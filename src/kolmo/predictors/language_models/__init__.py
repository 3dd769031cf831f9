"""Language models of tokens as predictors of bytes: transformers and GGUF."""
