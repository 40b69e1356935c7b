"""The API server: resources, store, patches, validation, tables, watches."""
