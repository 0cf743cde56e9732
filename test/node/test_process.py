import rclpy
from rclpy.node import Node
from rclpy.task import Future

from xmodelkd_ros.node.process import spin


def test_what_a_callback_raises_is_logged_once_and_does_not_end_the_executor(capfd):
    calls = []
    stop = Future()

    def callback():
        calls.append(None)
        if len(calls) == 5:
            stop.set_result(None)
        raise ValueError("no luck")

    rclpy.init()
    node = Node("unlucky")
    node.create_timer(0.01, callback)
    spin(node, stop)
    node.destroy_node()
    rclpy.shutdown()
    assert len(calls) == 5
    assert capfd.readouterr().err.count("a callback failed: ValueError('no luck')") == 1
