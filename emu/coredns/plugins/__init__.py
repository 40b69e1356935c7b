"""The plugins. `order.py` lists them in the order of the chain, which does not depend on the Corefile.

Each is a module (or a folder) of this package with `setup(directive, environment) -> Plugin` and a manual
page, `NAME.md`, beside it.
"""
