"""How every component talks to the API server: kubeconfig, REST client, reflector, events."""
