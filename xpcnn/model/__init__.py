"""The Sequential model, its state as plain data, and its file."""

from xpcnn.model.model import Sequential as Sequential
from xpcnn.model.model import load as load
