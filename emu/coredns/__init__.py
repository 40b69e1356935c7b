"""Cluster DNS: a server and a chain of plugins, configured by a Corefile."""
