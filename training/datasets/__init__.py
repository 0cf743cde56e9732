"""One loader for each dataset behind one interface; export to bags; exposures."""
