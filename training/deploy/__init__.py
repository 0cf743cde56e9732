"""From a run to an ONNX model folder: graph, parity, fp16, int8."""
