"""The Sequential model, its state as plain data, and its file."""

from xpcnn.model.loading import load as load
from xpcnn.model.model import Sequential as Sequential
