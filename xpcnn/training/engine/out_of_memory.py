"""The error for a batch that a device has no room for."""

from __future__ import annotations

from xpcnn.program.network import Network


def out_of_memory(error: Exception, n: int, network: Network) -> MemoryError:
    """Return a MemoryError that names the sizes of a batch, for the error that the array module raised."""
    return MemoryError(
        f"a batch of {n} images of {' x '.join(map(str, network.input_shape))} does not fit the device with "
        f"{network.layout.size:,} parameters: {str(error).splitlines()[0]}"
    )
