"""How addresses and sockets are provided. Nothing else in emu opens a pod-side socket."""
