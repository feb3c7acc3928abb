"""Exported networks: read from a model folder and run by ONNX Runtime, OpenVINO or TensorRT.

Nothing here imports PyTorch: a worker that labels with an exported network starts in less time and
memory.
"""
