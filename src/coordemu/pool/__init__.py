"""The client-side pool of a cluster client, with its connection state machine: the second subject of the laboratory."""
