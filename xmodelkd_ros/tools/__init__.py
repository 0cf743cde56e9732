"""The ``xmodelkd`` command: measure models on bags, fit sensors, check an installation."""
