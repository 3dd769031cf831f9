"""Where weights come from: checkpoints, ONNX models, folders of transformers."""
