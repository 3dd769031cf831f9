"""Models for other programs: GGUF files for llama.cpp."""
