"""Sources of weights: checkpoints, models in ONNX, folders of transformers."""
