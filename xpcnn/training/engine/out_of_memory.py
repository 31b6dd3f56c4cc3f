"""The error for a batch that does not fit into device memory."""

from __future__ import annotations

from xpcnn.program.network import Network


def out_of_memory(error: Exception, n: int, network: Network) -> MemoryError:
    """Return a MemoryError that states the size of the batch and quotes the error of the array module."""
    return MemoryError(
        f"a batch of {n} images of {' x '.join(map(str, network.input_shape))} does not fit into device memory with "
        f"{network.layout.size:,} parameters: {str(error).splitlines()[0]}"
    )
