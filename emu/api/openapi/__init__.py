"""OpenAPI v3 and v2: what the API serves, for clients that check manifests, explain fields or make code."""
