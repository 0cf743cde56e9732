"""Names of topics that the node, bags, tools and training share."""

SEGMENTER = "segmenter"
"""Default name of the node."""
LABELS, STATUS, LABEL_INFO_JSON = "labels", "status", "label_info_json"
"""The node's outputs, below its name. A bag's own ``label_info_json`` describes the truth in its clouds."""
DATA_SOURCE_JSON = "data_source_json"
"""Latched topic of a bag: name, licence and attribution of the data as JSON."""

LABELLED_STATUS = "labelled"
"""Start of the status of a sweep that was published with labels; warnings about the input follow."""

POINTS = "/points"
"""Default topic of the sweeps."""
DIAGNOSTICS = "/diagnostics"
CLOCK = "/clock"
STATIC_TF, TF = "/tf_static", "/tf"


def output_topic(output: str, node: str = SEGMENTER) -> str:
    """Absolute topic of one of the node's outputs."""
    return f"/{node}/{output}"


def camera_topics(image: str, info: str, compressed: bool) -> tuple[str, str]:
    """Topics of a camera's images and CameraInfo, named as by image_transport.

    Args:
        image: topic of raw images, also where the node takes the compressed ones below it.
        info: topic of CameraInfo; empty for ``camera_info`` in the namespace of ``image``.
        compressed: whether the compressed images are meant.
    """
    base = image.removesuffix("/compressed")
    namespace, slash, _ = base.rpartition("/")
    return f"{base}/compressed" if compressed else image, info or f"{namespace}{slash}camera_info"


SEGMENTER_LABELS, SEGMENTER_STATUS = output_topic(LABELS), output_topic(STATUS)
