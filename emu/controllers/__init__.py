"""The controllers: one module each, clients of the API server."""
