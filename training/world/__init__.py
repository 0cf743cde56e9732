"""Procedural drives with exact labels: streets, LiDAR sweeps and camera images, all by seed.

How a frame comes about, and where to read on:

======================  =====================================================================
``mesh``                triangles, each with a material, a class and an instance
``materials``           what surfaces are made of; ``surfaces`` says what colour and reflectance that gives at a point
``streets``             roads, junctions, pavements and lanes as polygons and lines; ``ground`` makes meshes of them
``buildings`` ...       things that stand there: ``buildings``, ``greenery``, ``furniture``, ``vehicles``, ``people``
``traffic``             what moves, and how
``scene``               all of it put together
``tracing``             rays against the scene
``sensors``             LiDARs, cameras, and how they are mounted; ``lidar`` scans, ``camera`` renders
``drive``               a seed in, frames out
======================  =====================================================================

World frame: x east, y north, z up, metres. Objects are built in their own frame (x forward, y left,
z up, origin on the ground) and then placed.
"""

WORLD_VERSION = 1
"""Stands in every result. Any change that changes a drive's bytes counts it up."""
