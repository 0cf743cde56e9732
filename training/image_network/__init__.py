"""Image networks as teachers: any 2-D segmentation network in ONNX, and what its classes mean for points."""
