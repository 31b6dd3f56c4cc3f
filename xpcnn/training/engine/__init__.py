"""Engines that run training steps: in shards on the host, or as a whole on a device."""
