"""One sweep, with or without images, in; one label per point out; which back end runs it."""
