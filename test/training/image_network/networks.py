"""Small image networks for tests."""

import json

import numpy as np

CLASSES = {
    "name": "colours",
    "label_set": "drive13",
    "classes": [
        {"name": "red", "means": ["car", "truck"]},
        {"name": "green", "means": ["vegetation"]},
        {"name": "blue", "means": "never"},
    ],
}
ORIGIN = {"name": "three colours", "license": "none", "attribution": ""}


def write_network(
    folder, *, layout="NCHW", size=("h", "w"), kind="logits", output_layout="NCHW", channels=3, **settings
):
    """A network whose classes are the brightest of red, green and blue in blocks of 8 x 8 pixels."""
    import onnx
    from onnx import TensorProto, helper

    folder.mkdir(parents=True, exist_ok=True)
    shape = [1, 3, *size] if layout == "NCHW" else [1, *size, 3]
    nodes = [
        helper.make_node("Transpose", ["image"], ["planes"], perm=[0, 3, 1, 2] if layout == "NHWC" else [0, 1, 2, 3])
    ]
    nodes += [helper.make_node("AveragePool", ["planes"], ["mean"], kernel_shape=[8, 8], strides=[8, 8])]
    nodes += [helper.make_node("Conv", ["mean", "weights"], ["scores"])]
    last, dtype = "scores", TensorProto.FLOAT
    if kind == "probabilities":
        nodes += [helper.make_node("Softmax", ["scores"], ["shares"], axis=1)]
        last = "shares"
    if kind == "classes":
        nodes += [helper.make_node("ArgMax", ["scores"], ["numbers"], axis=1, keepdims=0)]
        last, dtype = "numbers", TensorProto.INT64
    elif output_layout == "NHWC":
        nodes += [helper.make_node("Transpose", [last], ["turned"], perm=[0, 2, 3, 1])]
        last = "turned"
    weights = np.zeros((channels, 3, 1, 1), np.float32)
    weights[:3, :, 0, 0] = np.eye(3) * 0.05
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, dtype, None)],
        [helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "network.onnx")
    (folder / "colours.json").write_text(json.dumps(CLASSES))
    given = {
        "name": "colours",
        "classes": "colours.json",
        "origins": [ORIGIN],
        "input": {"layout": layout, **({"long_sides": [64], "multiple_of": 8} if "h" in size else {})},
        "output": {"kind": kind, "layout": output_layout},
    }
    for key, value in settings.items():
        given[key] = {**given.get(key, {}), **value} if isinstance(value, dict) else value
    (folder / "network.json").write_text(json.dumps(given))
    return folder
