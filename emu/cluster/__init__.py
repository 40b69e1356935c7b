"""A whole cluster: configuration, state directory, supervision of the processes."""
