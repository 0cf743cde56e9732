"""Read, write and repair bags; a recorded drive with its truth, cameras and transforms."""
