"""Export to ONNX model folders: graph, parity, fp16 and int8."""
