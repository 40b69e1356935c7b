"""What is particular to each kind: defaults, validation, and the columns of `kubectl get`."""
