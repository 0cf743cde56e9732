"""Procedural drives with exact labels: streets, LiDAR sweeps and camera images, all determined by a seed.

The modules, from a frame down to its parts:

==============================  ==============================================================================
``drive``                       a seed in, frames out
``scene``                       a street with everything in it, assembled by ``populate``, ``planting``, ``rural``,
                                ``fences``, ``sward`` and ``placement``
``street/``                     roads, junctions, pavements, plots and lanes as polygons and lines (``streets``);
                                ``ground`` makes meshes of them
``assets/``                     meshes of buildings, plants, street furniture, vehicles, people
``motion/``                     trajectories of traffic and of the ego vehicle
``mesh``, ``materials``         triangles, each with a material, a class and an instance
``tracing``                     ray casting against the scene
``sensing/``                    LiDARs (``lidar_model``, ``products``), and cameras and mounting (``rig``); ``lidar``
                                simulates sweeps, ``camera`` renders images, ``surfaces`` evaluates colour and
                                reflectance at a point
==============================  ==============================================================================

``training/world`` stores, counts, times and draws generated drives.

World frame: x east, y north, z up, metres. Objects are built in their own frame (x forward, y left,
z up, origin on the ground) and then placed.
"""

WORLD_VERSION = 4
"""Version recorded in every result. Increment it with any change that alters the bytes of a drive."""
