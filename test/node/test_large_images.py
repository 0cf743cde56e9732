"""Large raw images between two processes, without a DDS profile for large messages."""

import os
import sys
from subprocess import DEVNULL, Popen

CAMERA = """
import array, sys, time
import rclpy
from sensor_msgs.msg import CameraInfo, Image
from xmodelkd_ros.node.qos import reliable

rclpy.init()
node = rclpy.create_node("camera")
images = node.create_publisher(Image, "/front/image_raw", reliable(5))
infos = node.create_publisher(CameraInfo, "/front/camera_info", reliable(5))
info = CameraInfo(width=1920, height=1200, distortion_model="plumb_bob", d=[0.0] * 5)
info.k, info.p = [960.0, 0.0, 960.0, 0.0, 960.0, 600.0, 0.0, 0.0, 1.0], [0.0] * 12
image = Image(width=1920, height=1200, encoding="rgb8", step=3 * 1920)
image.data = array.array("B", bytes(range(250))) * (1920 * 1200 * 3 // 250)
info.header.frame_id = image.header.frame_id = "front"
while not images.get_subscription_count():
    time.sleep(0.05)
time.sleep(1.0)
for number in range(1000):
    image.header.stamp.sec, image.header.stamp.nanosec = divmod(number * 200_000_000, 1_000_000_000)
    infos.publish(info)
    images.publish(image)
    rclpy.spin_once(node, timeout_sec=0.2)
"""


def test_arrive_reliably_and_losses_are_counted(make_bench, light_model, capfd):
    bench = make_bench(
        **{
            "teacher_model": str(light_model),
            "mode": "teacher",
            "cameras": ["front"],
            "cameras.front.extrinsic": [0.0, 0.0, 0.0, 0.5, -0.5, 0.5, 0.5],
            "sync.deadline": 1.0,
        }
    ).start()
    profiles = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
    env = {name: value for name, value in os.environ.items() if name not in profiles}
    camera = Popen([sys.executable, "-c", CAMERA], env=env, stdout=DEVNULL)
    try:
        images = bench.node._processor._sync
        received = []
        on_image = images._on_image
        for subscription in images._images._subscriptions.values():
            subscription._on_received = lambda msg: (received.append(msg.header.stamp), on_image("front", msg))
        bench.wait(lambda: len(received) >= 8, "images")
    finally:
        camera.kill()
        camera.wait()
    stamps = [stamp.sec * 5 + round(stamp.nanosec / 2e8) for stamp in received]
    assert stamps == list(range(stamps[0], stamps[0] + len(stamps))), "none is lost"
    assert images.lost_images["front"] == 0
    (subscription,) = images._images._subscriptions.values()
    subscription._on_lost(3)
    bench.wait(lambda: bench.diagnostics[-1].values.get("front.images_lost_in_transport") == "3")
    warning = "3 images of camera front were lost between publisher and node; give the publisher a DDS profile"
    assert warning in capfd.readouterr().err
