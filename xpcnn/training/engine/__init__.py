"""How steps are made: on the host in shards, or on a device as a whole."""
