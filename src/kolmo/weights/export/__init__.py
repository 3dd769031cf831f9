"""Models for other programs: GGUF files for llama.cpp, folders of compressed-tensors for vLLM."""
