"""The trained network for other code: as safetensors, ONNX and torch.export, with a model card."""
