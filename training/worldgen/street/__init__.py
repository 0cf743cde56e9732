"""Street layout: road network, cross-sections, adjacent land use, and ground meshes."""
