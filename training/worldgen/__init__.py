"""Procedural drives with exact labels: streets, LiDAR sweeps and camera images, all by seed.

How a frame comes about, and where to read on:

==============================  ==============================================================================
``drive``                       a seed in, frames out; ``generate`` writes them, ``pool`` makes many drives at once
``scene``                       a street with everything in it, put together by ``dressing``, ``enclosures``
                                and ``placement``
``street/``                     roads, junctions, pavements, plots and lanes as polygons and lines (``streets``);
                                ``ground`` makes meshes of them
``assets/``                     what stands or moves there: buildings, plants, furniture, vehicles, people
``motion/``                     what moves, and how; the ego vehicle too
``mesh``, ``materials``         triangles, each with a material, a class and an instance
``tracing``                     rays against the scene
``sensing/``                    LiDARs, cameras and how they are mounted (``sensors``); ``lidar`` scans, ``camera``
                                renders, ``surfaces`` says what colour and reflectance there is at a point
``census``, ``measure``,        what came out: counted, timed and drawn
``contact_sheet``
==============================  ==============================================================================

World frame: x east, y north, z up, metres. Objects are built in their own frame (x forward, y left,
z up, origin on the ground) and then placed.
"""

WORLD_VERSION = 3
"""Stands in every result. Any change that changes a drive's bytes counts it up."""
