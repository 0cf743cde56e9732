"""Subcommands of ``xmodelkd``: one file each, with its arguments and the function that runs it.

``add_parser`` is called for every subcommand, so these files import what they run in ``run`` only.
"""
